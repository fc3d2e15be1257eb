#include "manyhands/mpi/info.hpp"

#include <cstring>
#include <vector>

#include "manyhands/mpi/error.hpp"
#include "manyhands/mpi/lifetime.hpp"

namespace manyhands::mpi {
namespace {

// Open MPI 4.1 takes no value without text: it holds this one instead.
constexpr const char* no_text = "\x01";

}  // namespace

Info::Info(std::initializer_list<std::pair<std::string, std::string>> hints) {
  for (const auto& [key, value] : hints) set(key, value);
}

Info Info::of_job() {
  detail::require_active("Info::of_job");
  MPI_Info copy = MPI_INFO_NULL;
  detail::check(MPI_Info_dup(MPI_INFO_ENV, &copy), "Info::of_job");
  return Info(copy);
}

Info& Info::operator=(Info&& other) noexcept {
  if (this != &other) {
    this->~Info();
    info_ = std::exchange(other.info_, MPI_INFO_NULL);
    owned_ = std::exchange(other.owned_, true);
  }
  return *this;
}

Info::~Info() {
  if (owned_ && info_ != MPI_INFO_NULL && is_active()) MPI_Info_free(&info_);
}

void Info::set(const std::string& key, const std::string& value) {
  detail::require_active("Info::set");
  if (key.empty()) detail::fail(Errc::info_key, "Info::set", {}, "a hint has a name: the key is empty");
  if (info_ == MPI_INFO_NULL) detail::check(MPI_Info_create(&info_), "Info::set");
  const std::string subject = "\"" + key + "\"";
  int code = MPI_Info_set(info_, key.c_str(), value.c_str());
  if (code != MPI_SUCCESS && value.empty()) code = MPI_Info_set(info_, key.c_str(), no_text);
  detail::check(code, "Info::set", {.subject = subject.c_str()});
}

std::optional<std::string> Info::get(const std::string& key) const {
  if (info_ == MPI_INFO_NULL || key.empty()) return std::nullopt;
  detail::require_active("Info::get");
  int length = 0;
  int found = 0;
  detail::check(MPI_Info_get_valuelen(info_, key.c_str(), &length, &found), "Info::get");
  if (found == 0) return std::nullopt;
  std::vector<char> text(static_cast<std::size_t>(length) + 1);
  detail::check(MPI_Info_get(info_, key.c_str(), length, text.data(), &found), "Info::get");
  return std::strcmp(text.data(), no_text) == 0 ? std::string() : std::string(text.data());
}

void Info::erase(const std::string& key) {
  detail::require_active("Info::erase");
  const std::string subject = "\"" + key + "\"";
  if (info_ == MPI_INFO_NULL || key.empty())
    detail::fail(Errc::info_nokey, "Info::erase", {.subject = subject.c_str()}, "there is no such hint");
  detail::check(MPI_Info_delete(info_, key.c_str()), "Info::erase", {.subject = subject.c_str()});
}

std::map<std::string, std::string> Info::all() const {
  std::map<std::string, std::string> found;
  if (info_ == MPI_INFO_NULL) return found;
  detail::require_active("Info::all");
  int count = 0;
  detail::check(MPI_Info_get_nkeys(info_, &count), "Info::all");
  for (int i = 0; i < count; ++i) {
    char key[MPI_MAX_INFO_KEY + 1];
    detail::check(MPI_Info_get_nthkey(info_, i, key), "Info::all");
    found.emplace(key, get(key).value_or(""));
  }
  return found;
}

Info Info::dup() const {
  if (info_ == MPI_INFO_NULL) return {};
  detail::require_active("Info::dup");
  MPI_Info copy = MPI_INFO_NULL;
  detail::check(MPI_Info_dup(info_, &copy), "Info::dup");
  return Info(copy);
}

}  // namespace manyhands::mpi
