#include "manyhands/shm/value.hpp"

#include <fmt/core.h>

#include "manyhands/base/error.hpp"
#include "manyhands/base/stack_trace.hpp"
#include "manyhands/shm/race.hpp"

namespace manyhands::shm {

BlockPtr make_value_block(std::size_t size, std::uint64_t type) {
  BlockPtr block = Block::create(sizeof(LockState) + size, BlockKind::value);
  header_of(block->offset()).type = type;
  LockState& lock = at<LockState>(block->offset());
  lock.recursive = true;
  lock.when_abandoned = WhenAbandoned::adopt;
  if (watching_races()) race::acquired(block->offset());  // this thread is older than those it shares it with
  return block;
}

void check_value_block(const BlockPtr& block, std::uint64_t type, const char* type_name) {
  const BlockHeader& header = header_of(block->offset());
  if (header.kind == BlockKind::value && header.type == type) return;
  throw Error(fmt::format("{} {} was taken for a Value<{}>: it holds another type", name_of(header.kind),
                          header.number, demangle(type_name)));
}

void announce_load(Offset value, Site site) {
  point(OpKind::load, value, site);
  if (watching_races()) race::read(value, site);
}

void announce_store(Offset value, Site site) {
  point(OpKind::store, value, site);
  if (watching_races()) race::wrote(value, site);
}

void announce_update(Offset value, Site site) {
  if (watching_races()) race::wrote(value, site);
}

void announce_read(Offset value, Site site) {
  if (watching_races()) race::read(value, site);
}

}  // namespace manyhands::shm
