#include "tuner/cache.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <utility>

#include "core/log.hpp"

namespace replk::tuner {
namespace {

constexpr const char* kFileName = "/tune.jsonl";
constexpr std::size_t kMostFaults = 1000;  // reported; a hostile file may hold millions

void warn(const std::string& what) {
  core::warn_once("tune cache: " + what, "tune cache: " + what);
}

/// Whether a replaces b, where both are of the same choice and a came later.
bool replaces(const Record& a, const Record& b) {
  return !a.tainted || b.tainted;
}

}  // namespace

Cache::Cache(std::string user, std::vector<std::string> system, std::string no_user)
    : user_(std::move(user)), no_user_(std::move(no_user)) {
  for (std::string& path : system) system_.emplace_back(std::move(path));
  system_layers_.resize(system_.size());
}

void Cache::parse(Layer& layer, const std::string& path, std::string_view text) {
  while (!text.empty() && !layer.newer) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    if (end < text.size()) layer.parsed += end + 1;
    text.remove_prefix(std::min(end + 1, text.size()));
    layer.lines++;
    if (line.empty()) continue;
    Line read = read_line(line);
    if (read.kind == LineKind::damaged) {
      if (layer.faults.size() < kMostFaults)
        layer.faults.push_back(fmt::format("{}:{}: damaged line", path, layer.lines));
    } else if (read.kind == LineKind::newer && layer.lines == 1) {
      layer.newer = true;
      layer.faults.push_back(path + ": written by a newer version of this library: not used");
    } else if (read.kind == LineKind::newer) {
      layer.newer_lines.emplace_back(line);
      layer.faults.push_back(fmt::format("{}:{}: a record of a newer version: not used", path, layer.lines));
    } else if (read.kind == LineKind::record && layer.records_read++ < kMostRecords) {
      auto [at, fresh] = layer.records.try_emplace(read.record.identity(), read.record);
      if (!fresh && replaces(read.record, at->second)) at->second = std::move(read.record);
    }
  }
  if (layer.records_read > kMostRecords)
    layer.faults.push_back(fmt::format("{}: more than {} records: the rest is not used", path, kMostRecords));
}

Cache::Layer Cache::parsed(const std::string& path, std::string_view text) {
  Layer layer;
  parse(layer, path, text);
  return layer;
}

void Cache::refresh(const Store& store, Layer& layer) {
  if (store.path().empty()) return;
  const Store::Stamp stamp = store.stamp();
  if (stamp == layer.stamp) return;
  // Files only grow by whole lines while they are the same file, so the new ones are enough.
  const bool grown =
      stamp.same_file(layer.stamp) && layer.parsed == layer.stamp.size && stamp.size > layer.parsed;
  if (!grown) layer = Layer{};
  const std::size_t faults = layer.faults.size();
  const Store::Content content = store.read(layer.parsed);
  parse(layer, store.path(), content.text);
  layer.stamp = stamp;
  if (!content.fault.empty()) layer.faults.push_back(content.fault);
  if (const std::size_t more = layer.faults.size() - faults; more > 0)
    warn(layer.faults[faults] + (more > 1 ? fmt::format(" (and {} more)", more - 1) : ""));
  const auto ours = [](const auto& entry) { return entry.second.machine == machine_json(); };
  if (!layer.records.empty() && std::none_of(layer.records.begin(), layer.records.end(), ours))
    warn(fmt::format("{}: {} records, none of them for this machine", store.path(), layer.records.size()));
}

void Cache::refresh() {
  refresh(user_, user_layer_);
  for (std::size_t i = 0; i < system_.size(); i++) refresh(system_[i], system_layers_[i]);
}

std::vector<const Cache::Layer*> Cache::layers() const {
  std::vector<const Layer*> all{&user_layer_};
  for (const Layer& layer : system_layers_) all.push_back(&layer);
  return all;
}

std::vector<Record> Cache::find(const Key& key) try {
  std::lock_guard lock(mutex_);
  refresh();
  const std::string identity = key.json() + machine_json();
  std::vector<Record> found;
  for (const Layer* layer : layers()) {
    const auto at = layer->records.find(identity);
    if (at != layer->records.end()) found.push_back(at->second);
  }
  std::stable_partition(found.begin(), found.end(), [](const Record& record) { return !record.tainted; });
  return found;
} catch (const std::exception& error) {
  warn(error.what());
  return {};
}

std::vector<Cache::Near> Cache::nearest(const Key& key, std::size_t most) try {
  std::lock_guard lock(mutex_);
  refresh();
  const std::string& machine = machine_json();
  std::vector<Near> all;
  for (const Layer* layer : layers()) {
    for (const auto& [identity, record] : layer->records) {
      if (record.machine != machine) continue;
      const std::optional<double> far = distance(key, record.key);
      if (far && *far > 0) all.push_back({record, *far});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Near& a, const Near& b) { return a.distance < b.distance; });
  if (all.size() > most) all.resize(most);
  return all;
} catch (const std::exception& error) {
  warn(error.what());
  return {};
}

/// Whether there is a user's file that may be written; with mutex_ held.
bool Cache::usable() {
  if (user_.path().empty()) {
    warn(no_user_.empty() ? "there is no place for it" : no_user_);
    return false;
  }
  refresh();
  return !user_layer_.newer;
}

bool Cache::store(Record record) try {
  std::lock_guard lock(mutex_);
  if (!usable()) return false;
  if (record.tainted) {
    const auto at = user_layer_.records.find(record.identity());
    if (at != user_layer_.records.end() && !at->second.tainted) return true;
  }
  const std::string line = to_line(record);
  if (read_line(line).kind != LineKind::record) {  // a key or pick too long for a line
    warn(fmt::format("the record of {} is longer than {} bytes and is not stored", record.shape,
                     kMostLineBytes));
    return false;
  }
  Store::Written written = user_.append(line, header_line());
  const bool crowded =
      user_layer_.records_read > 1000 && user_layer_.records_read > 4 * user_layer_.records.size();
  if (written.full || crowded) {
    user_.replace([&](std::string_view old) {
      Layer layer = parsed(user_.path(), old);
      std::vector<Record> kept;
      for (auto& [identity, each] : layer.records) kept.push_back(std::move(each));
      // Winners alone may still be too many: the oldest half goes.
      if (to_text(kept).size() > kMostFileBytes / 2) {
        std::sort(kept.begin(), kept.end(), [](const Record& a, const Record& b) { return a.date > b.date; });
        kept.resize(kept.size() / 2);
      }
      return to_text(kept, layer.newer_lines);
    });
    if (written.full) written = user_.append(line, header_line());
  }
  if (!written.ok) warn(written.fault);
  return written.ok;
} catch (const std::exception& error) {
  warn(error.what());
  return false;
}

std::vector<Record> Cache::records() {
  std::lock_guard lock(mutex_);
  refresh();
  std::map<std::string, Record> winners;
  for (const Layer* layer : layers()) {
    for (const auto& [identity, record] : layer->records) {
      auto [at, fresh] = winners.try_emplace(identity, record);
      if (!fresh && at->second.tainted && !record.tainted) at->second = record;
    }
  }
  std::vector<Record> all;
  for (auto& [identity, record] : winners) all.push_back(std::move(record));
  return all;
}

Cache::Change Cache::merge(std::string_view text) {
  std::lock_guard lock(mutex_);
  Change change;
  if (!usable()) return {0, 0, 0, false, user_layer_.newer ? user_layer_.faults.front() : no_user_};
  Layer incoming = parsed("input", text);
  change.refused = static_cast<int>(incoming.faults.size());
  if (incoming.newer) return {0, 0, change.refused, false, incoming.faults.front()};
  const Store::Written written = user_.replace([&](std::string_view old) {
    Layer layer = parsed(user_.path(), old);
    std::map<std::string, Record>& own = layer.records;
    for (auto& [identity, record] : incoming.records) {
      auto [at, fresh] = own.try_emplace(identity, record);
      if (fresh) {
        change.added++;
      } else if (replaces(record, at->second) && (record.date > at->second.date || at->second.tainted) &&
                 record.line != at->second.line) {
        at->second = std::move(record);
        change.replaced++;
      }
    }
    std::vector<Record> all;
    for (auto& [identity, record] : own) all.push_back(std::move(record));
    layer.newer_lines.insert(layer.newer_lines.end(), incoming.newer_lines.begin(),
                             incoming.newer_lines.end());
    return to_text(all, layer.newer_lines);
  });
  if (!written.ok) change = {0, 0, change.refused, false, written.fault};
  return change;
}

Cache::Change Cache::prune(const std::function<bool(const Record&)>& drop) {
  std::lock_guard lock(mutex_);
  Change change;
  if (!usable()) return {0, 0, 0, false, user_layer_.newer ? user_layer_.faults.front() : no_user_};
  if (user_layer_.stamp == Store::Stamp{}) return change;
  const Store::Written written = user_.replace([&](std::string_view old) {
    Layer layer = parsed(user_.path(), old);
    std::vector<Record> kept;
    for (auto& [identity, record] : layer.records)
      if (!drop(record)) kept.push_back(std::move(record));
    change.replaced = static_cast<int>(layer.records_read - kept.size());
    return to_text(kept, layer.newer_lines);
  });
  if (!written.ok) change = {0, 0, 0, false, written.fault};
  return change;
}

std::vector<std::string> Cache::faults() {
  std::lock_guard lock(mutex_);
  refresh();
  std::vector<std::string> all;
  for (const Layer* layer : layers()) all.insert(all.end(), layer->faults.begin(), layer->faults.end());
  if (user_.path().empty()) all.push_back(no_user_);
  return all;
}

std::string to_text(const std::vector<Record>& records, const std::vector<std::string>& newer_lines) {
  std::vector<std::pair<std::string, std::string>> lines;  // identity, line
  // A record that was read keeps its own line: it may hold fields that this version does not know.
  for (const Record& record : records)
    lines.emplace_back(record.identity(), record.line.empty() ? to_line(record) : record.line);
  std::sort(lines.begin(), lines.end());
  std::string text = header_line() + "\n";
  for (const auto& [identity, line] : lines) text += line + "\n";
  for (const std::string& line : newer_lines) text += line + "\n";
  return text;
}

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// An absolute directory, as the XDG specification demands: a relative one is ignored.
bool absolute(const std::string& path) {
  return !path.empty() && path[0] == '/';
}

std::string user_directory() {
  if (const std::string own = environment("REPLK_CACHE_DIR"); !own.empty()) return own;
  if (const std::string xdg = environment("XDG_CACHE_HOME"); absolute(xdg)) return xdg + "/libreplk_cpu";
  if (const std::string home = environment("HOME"); absolute(home)) return home + "/.cache/libreplk_cpu";
  return {};
}

std::vector<std::string> system_files() {
  std::vector<std::string> files{std::string("/etc/libreplk_cpu") + kFileName};
  Dl_info info;
  if (::dladdr(reinterpret_cast<void*>(&process_cache), &info) && info.dli_fname) {
    std::string prefix =
        info.dli_fname;  // prefix/lib/libreplk_cpu.so, prefix/lib/x86_64-linux-gnu/..., prefix/bin/...
    for (int up = 0; up < 3 && absolute(prefix); up++) {
      prefix.erase(prefix.rfind('/'));
      if (up > 0) files.push_back(prefix + "/share/libreplk_cpu" + kFileName);
    }
  }
  return files;
}

}  // namespace

Cache& process_cache() {
  static Cache* cache = [] {
    const std::string directory = user_directory();
    return new Cache(directory.empty() ? "" : directory + kFileName, system_files(),
                     "there is no place for it: set REPLK_CACHE_DIR, XDG_CACHE_HOME or HOME");
  }();  // never destroyed: threads may still plan while the process ends
  return *cache;
}

}  // namespace replk::tuner
