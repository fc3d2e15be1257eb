#include "manyhands/base/memory.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "manyhands/base/error.hpp"

namespace manyhands {
namespace {

TEST_CASE("asking for more memory than the machine has is refused with the numbers") {
  CHECK_NOTHROW(require_memory(1 << 20, "a test"));
  try {
    require_memory(std::size_t{1} << 50, "a test");
    FAIL("accepted a PiB");
  } catch (const ResourceExhausted& e) {
    CHECK(std::string(e.what()).find("a test needs 1073741824 MiB") != std::string::npos);
  }
}

// A tree of files as /proc and /sys have them.
class Tree {
 public:
  Tree() {
    std::string name = std::filesystem::temp_directory_path() / "manyhands-test-XXXXXX";
    root_ = ::mkdtemp(name.data());
  }
  ~Tree() { std::filesystem::remove_all(root_); }
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  CgroupMemory look() const { return cgroup_memory(root_.string()); }

 private:
  std::filesystem::path root_;
};

TEST_CASE("a limit at the root of the cgroups is seen, as in a container") {
  const Tree tree;
  tree.write("proc/self/cgroup", "0::/");
  tree.write("sys/fs/cgroup/memory.max", "536870912");
  tree.write("sys/fs/cgroup/memory.current", "10485760");
  const CgroupMemory found = tree.look();
  CHECK(found.left == 536870912 - 10485760);
  CHECK(found.limit == 536870912);
  CHECK(found.used == 10485760);
  CHECK(found.path.ends_with("/sys/fs/cgroup"));
}

TEST_CASE("the tightest of all cgroups above counts, and max is no limit") {
  const Tree tree;
  tree.write("proc/self/cgroup", "0::/a/b");
  tree.write("sys/fs/cgroup/a/b/memory.max", "max");
  tree.write("sys/fs/cgroup/a/b/memory.current", "5");
  CHECK(tree.look().left == UINT64_MAX);
  tree.write("sys/fs/cgroup/a/memory.max", "1000");
  tree.write("sys/fs/cgroup/a/memory.current", "400");
  CHECK(tree.look().left == 600);
  tree.write("sys/fs/cgroup/memory.max", "700");
  tree.write("sys/fs/cgroup/memory.current", "650");
  CHECK(tree.look().left == 50);
  tree.write("sys/fs/cgroup/a/b/memory.max", "3");
  CHECK(tree.look().left == 0);
  CHECK(tree.look().path.ends_with("/sys/fs/cgroup/a/b"));
}

TEST_CASE("the limits of cgroups of version 1 are seen, where the machine's path is not there, too") {
  const Tree tree;
  tree.write("proc/self/cgroup", "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/system.slice");
  tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");  // none
  tree.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "100");
  CHECK(tree.look().left == UINT64_MAX);
  tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456");
  CHECK(tree.look().left == 268435456 - 100);
  tree.write("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "1000");
  tree.write("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "999");
  CHECK(tree.look().left == 1);
}

TEST_CASE("without /proc or cgroups there is no limit, or the one at the root") {
  const Tree tree;
  CHECK(tree.look().left == UINT64_MAX);
  tree.write("sys/fs/cgroup/memory.max", "1000");
  tree.write("sys/fs/cgroup/memory.current", "1");
  CHECK(tree.look().left == 999);
}

}  // namespace
}  // namespace manyhands
