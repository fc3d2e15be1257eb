// The main function of the MPI tests: every rank of the job runs the same test cases in the same order.
//
// A check that fails on one rank ends the job at once, so that the others do not wait for it for ever. Rank 0
// reports.
#define DOCTEST_CONFIG_IMPLEMENT
// The other ranks are ended by SIGTERM, and have nothing to say.
#define DOCTEST_CONFIG_NO_POSIX_SIGNALS
// about it
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdio>
#include <sstream>
#include <string>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/environment.hpp"

namespace mpi = manyhands::mpi;

namespace {

// Ends the job at the first check that fails on any rank.
class EndOnFailure : public doctest::IReporter {
 public:
  explicit EndOnFailure(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData& data) override {
    name_ = data.m_name;
    if (std::getenv("MANYHANDS_TEST_VERBOSE") != nullptr && mpi::world().rank() == 0)
      std::fprintf(stderr, "%s\n", data.m_name);
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException& e) override {
    end(std::string("exception: ") + e.error_string.c_str());
  }
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData& data) override {
    if (!data.m_failed) return;
    std::ostringstream text;
    text << data.m_file << ':' << data.m_line << ": " << doctest::assertString(data.m_at) << '('
         << data.m_expr << ')';
    if (data.m_threw) {
      text << " threw " << data.m_exception.c_str();
    } else {
      text << " is " << data.m_decomp.c_str();
    }
    const int infos = doctest::IReporter::get_num_active_contexts();
    for (int i = 0; i < infos; ++i) {
      text << "\n  ";
      doctest::IReporter::get_active_contexts()[i]->stringify(&text);
    }
    end(text.str());
  }
  void log_message(const doctest::MessageData& data) override { end(data.m_string.c_str()); }
  void test_case_skipped(const doctest::TestCaseData&) override {}

 private:
  [[noreturn]] void end(const std::string& what) const { mpi::abort("\"" + name_ + "\": " + what); }
  std::string name_;
};

DOCTEST_REGISTER_LISTENER("end", 1, EndOnFailure);

}  // namespace

int main(int argc, char** argv) {
  mpi::Environment env(argc, argv, {.threads = mpi::ThreadLevel::multiple});
  doctest::Context context(argc, argv);
  std::ostringstream quiet;
  if (mpi::world().rank() != 0) context.setCout(&quiet);
  const int failed = context.run();
  return failed;
}
