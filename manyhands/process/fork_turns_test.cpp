#include "manyhands/process/fork_turns.hpp"

#include <doctest/doctest.h>

#include "tests/board_fixture.hpp"

namespace manyhands::process {
namespace {

struct Boards {
  test::BoardFixture fixture;
  std::shared_ptr<shm::Segment> board = std::make_shared<shm::Segment>(std::move(fixture.segment));
  Boards() {
    for (std::uint32_t worker = 0; worker < 2; ++worker) BoardView(board->data()).slot(worker).gate.store(0);
  }
  bool is_open(std::uint32_t worker) const { return BoardView(board->data()).slot(worker).gate.load() == 1; }
};

TEST_CASE("as many workers run as the pool has, in the order of the calls") {
  const Boards first;
  const Boards second;
  ForkTurns turns(2);
  turns.ask(first.board, 0);
  turns.ask(second.board, 0);
  turns.ask(second.board, 1);
  turns.ask(first.board, 1);
  CHECK(first.is_open(0));
  CHECK(second.is_open(0));
  CHECK_FALSE(second.is_open(1));
  turns.ended(first.board, 0);
  CHECK(second.is_open(1));
  CHECK_FALSE(first.is_open(1));
  turns.ended(second.board, 1);
  CHECK(first.is_open(1));
}

TEST_CASE("a worker that ends before its turn takes nobody's") {
  const Boards boards;
  const Boards later;
  ForkTurns turns(1);
  turns.ask(boards.board, 0);
  turns.ask(boards.board, 1);
  turns.ask(later.board, 0);
  turns.ended(boards.board, 1);
  CHECK_FALSE(later.is_open(0));
  turns.ended(boards.board, 0);
  CHECK(later.is_open(0));
  turns.ended(later.board, 0);
  turns.ended(later.board, 0);  // told twice
  turns.ask(boards.board, 1);
  CHECK(boards.is_open(1));
}

}  // namespace
}  // namespace manyhands::process
