#include "manyhands/mpi/session.hpp"

#include <algorithm>
#include <utility>

namespace manyhands::mpi {

#if MH_MPI_HAS_SESSIONS

Session::Session(const SessionOptions& options) {
  detail::require_active("Session");
  Info info = options.info.native() == MPI_INFO_NULL ? Info() : options.info.dup();
  const int level = static_cast<int>(options.threads);
  info.set("thread_level", level == MPI_THREAD_SINGLE       ? "MPI_THREAD_SINGLE"
                           : level == MPI_THREAD_FUNNELED   ? "MPI_THREAD_FUNNELED"
                           : level == MPI_THREAD_SERIALIZED ? "MPI_THREAD_SERIALIZED"
                                                            : "MPI_THREAD_MULTIPLE");
  detail::check(MPI_Session_init(info.native(), MPI_ERRORS_RETURN, &session_), "Session");
}

Session::Session(Session&& other) noexcept : session_(std::exchange(other.session_, MPI_SESSION_NULL)) {}

Session::~Session() {
  if (session_ != MPI_SESSION_NULL && is_active()) MPI_Session_finalize(&session_);
}

namespace {

void require_session(MPI_Session session, const char* verb) {
  detail::require_active(verb);
  if (session == MPI_SESSION_NULL) detail::fail(Errc::arg, verb, {}, "the session is empty: moved from");
}

}  // namespace

std::vector<std::string> Session::psets() const {
  require_session(session_, "Session::psets");
  int count = 0;
  detail::check(MPI_Session_get_num_psets(session_, MPI_INFO_NULL, &count), "Session::psets");
  std::vector<std::string> names;
  names.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    int length = 0;
    detail::check(MPI_Session_get_nth_pset(session_, MPI_INFO_NULL, i, &length, nullptr), "Session::psets");
    std::vector<char> text(static_cast<std::size_t>(length) + 1);
    detail::check(MPI_Session_get_nth_pset(session_, MPI_INFO_NULL, i, &length, text.data()),
                  "Session::psets");
    names.emplace_back(text.data());
  }
  return names;
}

Info Session::pset_info(const std::string& pset) const {
  require_session(session_, "Session::pset_info");
  MPI_Info info = MPI_INFO_NULL;
  detail::check(MPI_Session_get_pset_info(session_, pset.c_str(), &info), "Session::pset_info",
                {.subject = pset.c_str()});
  return Info::adopt(info);
}

Group Session::group_of(const std::string& pset) const {
  require_session(session_, "Session::group_of");
  // Some MPIs do not survive a name that they do not know.
  const std::vector<std::string> known = psets();
  if (std::ranges::find(known, pset) == known.end())
    detail::fail(Errc::arg, "Session::group_of", {.subject = pset.c_str()},
                 "there is no such set of processes");
  MPI_Group group = MPI_GROUP_NULL;
  detail::check(MPI_Group_from_session_pset(session_, pset.c_str(), &group), "Session::group_of",
                {.subject = pset.c_str()});
  return Group::adopt(group);
}

Comm Session::comm(const Group& group, const std::string& tag, const Info& info) const {
  require_session(session_, "Session::comm");
  MPI_Comm made = MPI_COMM_NULL;
  detail::check(
      MPI_Comm_create_from_group(group.native(), tag.c_str(), info.native(), MPI_ERRORS_RETURN, &made),
      "Session::comm", {.subject = tag.c_str()});
  return Comm::adopt(made);
}

Info Session::info() const {
  require_session(session_, "Session::info");
  MPI_Info raw = MPI_INFO_NULL;
  detail::check(MPI_Session_get_info(session_, &raw), "Session::info");
  return Info::adopt(raw);
}

ThreadLevel Session::thread_level() const {
  const std::string level = info().get("thread_level").value_or("");
  return level == "MPI_THREAD_MULTIPLE"     ? ThreadLevel::multiple
         : level == "MPI_THREAD_SERIALIZED" ? ThreadLevel::serialized
         : level == "MPI_THREAD_FUNNELED"   ? ThreadLevel::funneled
                                            : ThreadLevel::single;
}

#else

namespace {

[[noreturn]] void fail_unsupported() {
  throw Unsupported(
      "Session", "sessions came with MPI 4; this MPI is older (MPICH from 4.0, Open MPI from 5.0 have them)");
}

}  // namespace

Session::Session(const SessionOptions&) {
  detail::require_active("Session");
  fail_unsupported();
}
Session::Session(Session&&) noexcept = default;
Session::~Session() = default;
std::vector<std::string> Session::psets() const { fail_unsupported(); }
Info Session::pset_info(const std::string&) const { fail_unsupported(); }
Group Session::group_of(const std::string&) const { fail_unsupported(); }
Comm Session::comm(const Group&, const std::string&, const Info&) const { fail_unsupported(); }
Info Session::info() const { fail_unsupported(); }
ThreadLevel Session::thread_level() const { fail_unsupported(); }

#endif

}  // namespace manyhands::mpi
