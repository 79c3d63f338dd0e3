#include "tuner/store.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

namespace replk::tuner {
namespace {

// Attempts of a millisecond each: a writer holds the lock for one write and one sync. A reader gives up
// sooner, since it can do without.
constexpr int kWriterPatience = 2000, kReaderPatience = 100;

/// A file descriptor that closes itself.
class File {
 public:
  File(const std::string& path, int flags) {
    do fd_ = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    while (fd_ < 0 && errno == EINTR);
  }
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool ok() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  int fd_;
};

void sleep_a_millisecond() {
  const timespec time{0, 1'000'000};
  ::nanosleep(&time, nullptr);
}

/// False, with errno, where it cannot be had in time. Waiting with LOCK_NB: a process that is stopped while
/// it holds the lock must not stop everybody else for ever.
bool lock(int fd, int kind, int patience) {
  for (int attempt = 0; attempt < patience; attempt++) {
    if (::flock(fd, kind | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK && errno != EINTR) return false;
    sleep_a_millisecond();
  }
  errno = EWOULDBLOCK;
  return false;
}

bool regular(int fd, struct stat& status) {
  return ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

/// The file that a path names in the end; dotfile managers put links where programs look. A link of another
/// user is not followed (in a directory that others may write to, it would choose which of our files is
/// written): the path is then the link itself, which O_NOFOLLOW refuses, as it does the last of too many
/// links.
std::string followed(std::string path) {
  constexpr int most_links = 40;  // as the kernel
  for (int links = 0; links < most_links; links++) {
    struct stat status;
    if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) break;
    if (status.st_uid != ::geteuid() && status.st_uid != 0) break;
    char target[4096];
    const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
    if (length <= 0 || length == sizeof target) break;
    const std::string_view text(target, static_cast<std::size_t>(length));
    path = text[0] == '/' ? std::string(text) : directory_of(path) + "/" + std::string(text);
  }
  return path;
}

/// Whether the path still names the file that is open: another process may have renamed a compacted one over
/// it.
bool current(const std::string& path, const struct stat& opened) {
  struct stat now;
  return ::lstat(path.c_str(), &now) == 0 && now.st_ino == opened.st_ino && now.st_dev == opened.st_dev;
}

/// One write(2) where the system allows it; false, with errno, where not all was written.
bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    if (n == 0) {
      errno = ENOSPC;
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

bool read_all(int fd, std::string& text) {
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    if (n == 0) return true;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > kMostFileBytes) {
      errno = EFBIG;
      return false;
    }
  }
}

/// Like mkdir -p with mode 0700; what exists already is left as it is.
void make_directories(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    ::mkdir(path.substr(0, end).c_str(), 0700);
    if (end == std::string::npos) return;
  }
}

void sync_directory(const std::string& path) {
  File directory(path, O_RDONLY | O_DIRECTORY);
  if (directory.ok()) ::fsync(directory.fd());
}

Store::Written failure(const std::string& path, const char* what, int error) {
  return {false, false, fmt::format("{}: cannot {}: {}", path, what, std::strerror(error))};
}

std::string not_regular(const std::string& path) {
  return path + ": not a regular file";
}

/// In the same words whether it was to be read or written: one fault of a file is reported once.
Store::Written not_opened(const std::string& path, int error) {
  if (error == EISDIR) return {false, false, not_regular(path)};
  return failure(path, "open", error);
}

/// Runs body(fd, size, target) on the file that the path names, alone; target is that file's own path.
template <class Body>
Store::Written locked(const std::string& path, Body body) {
  for (int attempt = 0; attempt < 100; attempt++) {
    const std::string target = followed(path);
    make_directories(directory_of(target));
    File file(target, O_RDWR | O_CREAT | O_APPEND);
    if (!file.ok()) return not_opened(path, errno);
    struct stat status;
    if (!regular(file.fd(), status)) return {false, false, not_regular(path)};
    if (!lock(file.fd(), LOCK_EX, kWriterPatience)) return failure(path, "lock", errno);
    if (!current(target, status)) continue;
    if (::fstat(file.fd(), &status) != 0) return failure(path, "look at", errno);
    return body(file.fd(), static_cast<std::size_t>(status.st_size), target);
  }
  return {false, false, path + ": replaced again and again while it was to be locked"};
}

}  // namespace

Store::Content Store::read(std::size_t from) const {
  Content content;
  File file(followed(path_), O_RDONLY);
  if (!file.ok()) {
    if (errno != ENOENT && errno != ENOTDIR) content.fault = not_opened(path_, errno).fault;
    return content;
  }
  struct stat status;
  content.exists = true;
  if (!regular(file.fd(), status)) {
    content.fault = not_regular(path_);
    return content;
  }
  lock(
      file.fd(), LOCK_SH,
      kReaderPatience);  // where locks do not work, a line that is being written has a wrong checksum: a miss
  if (::lseek(file.fd(), static_cast<off_t>(from), SEEK_SET) < 0 || !read_all(file.fd(), content.text)) {
    content.fault = errno == EFBIG ? fmt::format("{}: larger than {} bytes", path_, kMostFileBytes)
                                   : failure(path_, "read", errno).fault;
    content.text.clear();
  }
  return content;
}

Store::Stamp Store::stamp() const {
  struct stat s;
  if (::lstat(followed(path_).c_str(), &s) != 0) return {};
  return {s.st_dev, s.st_ino, static_cast<std::uint64_t>(s.st_size),
          s.st_mtim.tv_sec * std::int64_t{1'000'000'000} + s.st_mtim.tv_nsec};
}

Store::Written Store::append(const std::string& line, const std::string& header) {
  return locked(path_, [&](int fd, std::size_t size, const std::string&) -> Written {
    std::string text;
    if (size == 0) {
      text.append(header).push_back('\n');
    } else {
      char last = '\n';  // a writer that died inside its write left a line without an end
      if (::pread(fd, &last, 1, static_cast<off_t>(size) - 1) != 1) return failure(path_, "read", errno);
      if (last != '\n') text.push_back('\n');
    }
    text += line + "\n";
    if (size + text.size() > kMostFileBytes)
      return {false, true, fmt::format("{}: would grow beyond {} bytes", path_, kMostFileBytes)};
    if (!write_all(fd, text) || ::fdatasync(fd) != 0) {
      const int error = errno;
      if (::ftruncate(fd, static_cast<off_t>(size)) != 0)
        return failure(path_, "take a partial write back", errno);
      return failure(path_, "write", error);
    }
    return {true, false, {}};
  });
}

Store::Written Store::replace(const std::function<std::string(std::string_view)>& edit) {
  return locked(path_, [&](int fd, std::size_t, const std::string& target) -> Written {
    std::string old;
    if (!read_all(fd, old)) return failure(path_, "read", errno);
    const std::string text = edit(old);
    const std::string temporary =
        target + ".new";  // one name: the holder of the lock is alone, and a leftover is reused
    {
      File file(temporary, O_WRONLY | O_CREAT | O_TRUNC);
      struct stat status;
      if (!file.ok()) return not_opened(temporary, errno);
      if (!regular(file.fd(), status)) return {false, false, not_regular(temporary)};
      if (!write_all(file.fd(), text) || ::fsync(file.fd()) != 0) {
        const int error = errno;
        ::unlink(temporary.c_str());
        return failure(temporary, "write", error);
      }
    }
    if (::rename(temporary.c_str(), target.c_str()) != 0) return failure(path_, "replace", errno);
    sync_directory(directory_of(target));
    return {true, false, {}};
  });
}

}  // namespace replk::tuner
