// What was chosen before, here or on an equal machine: the user's file, over read-only ones of the system.
#pragma once
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tuner/key.hpp"
#include "tuner/record.hpp"
#include "tuner/store.hpp"

namespace replk::tuner {

/// Never fails its caller: whatever is wrong with a file costs what is wrong, and one warning a process
/// (core::warn_once). Thread-safe. A file that another process has changed is read again.
class Cache {
 public:
  /// user: empty for none, with `no_user` saying why. system: first wins.
  Cache(std::string user, std::vector<std::string> system, std::string no_user = {});

  /// The records of this key on this machine: the user's before the system's, clean ones before tainted ones.
  std::vector<Record> find(const Key& key);

  struct Near {
    Record record;
    double distance = 0;
  };
  /// Records of this machine whose exact fields are those of the key, nearest first, the key itself left out.
  std::vector<Near> nearest(const Key& key, std::size_t most);

  /// Appends to the user's file; false (and a warning) where that is not possible. A tainted record does not
  /// go over a clean one: that is a success that stores nothing. True means that the record survives the
  /// death of this process.
  bool store(Record record);

  /// All sound records of all layers, the winning one of each choice, ordered by key and machine. Of every
  /// machine.
  std::vector<Record> records();

  struct Change {
    int added = 0, replaced = 0, refused = 0;  // refused: damaged or newer lines
    bool ok = true;                            // false: nothing was written; `fault` says why
    std::string fault;
  };
  /// Takes in the lines of another cache; the later date wins, but never tainted over clean.
  Change merge(std::string_view text);
  /// Rewrites the user's file: winners only, ordered, without those for which drop() is true.
  Change prune(const std::function<bool(const Record&)>& drop);

  /// What is wrong with the files, a line each: damaged and newer lines by number, files that cannot be read.
  std::vector<std::string> faults();

  const std::string& user_path() const { return user_.path(); }

 private:
  /// What was read of one file.
  struct Layer {
    Store::Stamp stamp;
    std::size_t parsed = 0;                 // bytes of whole lines that are in here already
    std::map<std::string, Record> records;  // by identity, superseded ones left out
    std::size_t records_read = 0;           // superseded ones too
    std::size_t lines = 0;
    std::vector<std::string> newer_lines;  // kept when the file is rewritten
    std::vector<std::string> faults;
    bool newer = false;  // its header is of a later version: neither read nor written
  };
  static void parse(Layer& layer, const std::string& path, std::string_view text);
  static Layer parsed(const std::string& path, std::string_view text);
  static void refresh(const Store& store, Layer& layer);
  void refresh();  // with mutex_ held
  bool usable();   // the same
  std::vector<const Layer*> layers() const;

  std::mutex mutex_;
  Store user_;
  std::string no_user_;
  std::vector<Store> system_;
  Layer user_layer_;
  std::vector<Layer> system_layers_;
};

/// The lines of a cache with exactly these records, sorted: the same records give the same bytes. Lines of a
/// newer version follow as they are.
std::string to_text(const std::vector<Record>& records, const std::vector<std::string>& newer_lines = {});

/// The cache of this process: REPLK_CACHE_DIR, else XDG_CACHE_HOME/libreplk_cpu, else ~/.cache/libreplk_cpu;
/// below it /etc/libreplk_cpu and share/libreplk_cpu of the prefix that the library is installed in. The file
/// is tune.jsonl.
Cache& process_cache();

}  // namespace replk::tuner
