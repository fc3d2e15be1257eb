#include "manyhands/mpi/halo.hpp"

#include <doctest/doctest.h>

#include <array>
#include <numeric>

namespace manyhands::mpi {
namespace {

struct Cell {
  float a;
  int b;
  friend bool operator==(const Cell&, const Cell&) = default;
};

template <class T>
T cell_of(int n) {
  if constexpr (std::is_same_v<T, Cell>) {
    return {static_cast<float>(n), -n};
  } else if constexpr (std::is_same_v<T, std::array<double, 2>>) {
    return {n + 0.5, n - 0.5};
  } else {
    return static_cast<T>(n);
  }
}

// The part [first, last) of `n` cells that place `i` of `places` has.
struct Part {
  int first, last;
  Part(int n, int i, int places) : first(n * i / places), last(n * (i + 1) / places) {}
  int size() const { return last - first; }
};

// Calls visit(indices) for all indices of a row-major box.
template <class Visit>
void for_all(const std::vector<int>& shape, Visit visit) {
  std::vector<int> at(shape.size(), 0);
  for (int left = std::accumulate(shape.begin(), shape.end(), 1, std::multiplies<>()); left > 0; --left) {
    visit(at);
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++at[d] < shape[d]) break;
      at[d] = 0;
    }
  }
}

// After a round each ghost cell holds what the whole field has there, in three rounds.
template <class T>
void ghosts_are_right(const std::vector<int>& whole, const std::vector<bool>& periodic, int width,
                      Corners corners) {
  const Cart grid(world(), {.dims = std::vector<int>(whole.size(), 0), .periodic = periodic});
  const std::vector<int> coords = grid.coords();
  std::vector<Part> parts;
  GridView<T> view{nullptr, {}};
  std::vector<int> shape;
  for (std::size_t d = 0; d < whole.size(); ++d) {
    parts.emplace_back(whole[d], coords[d], grid.dims()[d]);
    shape.push_back(parts[d].size() + 2 * width);
    view.shape.push_back(shape[d]);
  }
  std::vector<T> field(
      static_cast<std::size_t>(std::accumulate(shape.begin(), shape.end(), 1, std::multiplies<>())));
  view.data = field.data();
  Halo halo(grid, view, {.width = width, .corners = corners});

  for (int round = 0; round < 3; ++round) {
    const T untouched = cell_of<T>(-1);
    std::vector<T> expected(field.size(), untouched);
    std::size_t index = 0;
    for_all(shape, [&](const std::vector<int>& at) {
      int number = round;
      int outside = 0;  // dimensions in which it is a ghost
      bool exists = true;
      for (std::size_t d = 0; d < at.size(); ++d) {
        int global = parts[d].first + at[d] - width;
        if (global < parts[d].first || global >= parts[d].last) ++outside;
        if (periodic[d]) global = (global + whole[d]) % whole[d];
        exists = exists && global >= 0 && global < whole[d];
        number = number * 23 + global;
      }
      field[index] = outside == 0 ? cell_of<T>(number) : untouched;
      if (exists && (outside <= 1 || corners != Corners::none)) expected[index] = cell_of<T>(number);
      ++index;
    });
    if (round == 1) {
      halo.exchange();
    } else {
      auto exchange = halo.start();
      exchange.wait();
    }
    CHECK((field == expected));
  }
}

TEST_CASE("ghost layers hold the neighbours' cells, in one to three dimensions") {
  for (const int width : {1, 2}) {
    for (const Corners corners : {Corners::none, Corners::ordered, Corners::diagonal}) {
      CAPTURE(width);
      CAPTURE(static_cast<int>(corners));
      ghosts_are_right<double>({17}, {true}, width, corners);
      ghosts_are_right<int>({19}, {false}, width, corners);
      ghosts_are_right<double>({17, 15}, {true, false}, width, corners);
      ghosts_are_right<Cell>({16, 15}, {true, true}, width, corners);
      ghosts_are_right<std::array<double, 2>>({16, 11, 9}, {false, true, true}, width, corners);
    }
  }
}

TEST_CASE("four dimensions, widths of their own and components that are not spread") {
  ghosts_are_right<float>({7, 4, 4, 4}, {true, true, false, true}, 1, Corners::diagonal);

  const Cart grid(world(), {.dims = {0, 1}, .periodic = {true, true}});
  constexpr int own = 4;
  constexpr int columns = 3;
  constexpr int components = 2;
  // Two ghost rows on each side, no ghost columns, two components in each cell.
  std::vector<int> field(std::size_t{own + 4} * columns * components, -1);
  const auto row = [&](int r) {
    return std::span(field).subspan(static_cast<std::size_t>(r) * columns * components, columns * components);
  };
  for (int r = 0; r < own; ++r) std::ranges::fill(row(r + 2), grid.rank() * own + r);
  Halo halo(grid, grid_view(field.data(), {std::size_t{own + 4}, columns, components}), {.widths = {2, 0}});
  halo.exchange();
  const int rows = own * grid.size();
  for (int r = 0; r < own + 4; ++r) {
    const int global = (grid.rank() * own + r - 2 + rows) % rows;
    for (const int value : row(r)) CHECK(value == global);
  }
}

// Nine-point averages, with zeros around the field where it is not periodic.
TEST_CASE("a stencil with corners gives the same on all ranks together as serially") {
  constexpr int ny = 23;
  constexpr int nx = 17;
  constexpr int steps = 6;
  const std::vector<bool> periodic = {true, false};
  const auto start = [](int y, int x) { return static_cast<double>((y * 31 + x * 17) % 13); };
  const auto average = [](auto at) {
    double sum = 0;
    for (int dy = -1; dy <= 1; ++dy) {
      for (int dx = -1; dx <= 1; ++dx) sum += at(dy, dx);
    }
    return sum / 9;
  };
  std::vector<double> serial(std::size_t{ny} * nx);
  for (int y = 0; y < ny; ++y) {
    for (int x = 0; x < nx; ++x) serial[static_cast<std::size_t>(y * nx + x)] = start(y, x);
  }
  for (int step = 0; step < steps; ++step) {
    auto next = serial;
    for (int y = 0; y < ny; ++y) {
      for (int x = 0; x < nx; ++x) {
        next[static_cast<std::size_t>(y * nx + x)] = average([&](int dy, int dx) {
          if (x + dx < 0 || x + dx >= nx) return 0.0;
          return serial[static_cast<std::size_t>((y + dy + ny) % ny * nx + x + dx)];
        });
      }
    }
    serial = next;
  }

  for (const Corners corners : {Corners::ordered, Corners::diagonal}) {
    const Cart grid(world(), {.dims = {0, 0}, .periodic = periodic});
    const Part rows(ny, grid.coords()[0], grid.dims()[0]);
    const Part columns(nx, grid.coords()[1], grid.dims()[1]);
    const int width = columns.size() + 2;
    std::vector<double> field(static_cast<std::size_t>((rows.size() + 2) * width), 0.0);
    const auto at = [&](int y, int x) -> double& {
      return field[static_cast<std::size_t>((y + 1) * width + x + 1)];
    };
    for (int y = 0; y < rows.size(); ++y) {
      for (int x = 0; x < columns.size(); ++x) at(y, x) = start(rows.first + y, columns.first + x);
    }
    Halo halo(grid, grid_view(field.data(), {rows.size() + 2, width}), {.corners = corners});
    for (int step = 0; step < steps; ++step) {
      halo.exchange();
      auto next = field;
      for (int y = 0; y < rows.size(); ++y) {
        for (int x = 0; x < columns.size(); ++x)
          next[static_cast<std::size_t>((y + 1) * width + x + 1)] =
              average([&](int dy, int dx) { return at(y + dy, x + dx); });
      }
      std::ranges::copy(next, field.begin());
    }
    for (int y = 0; y < rows.size(); ++y) {
      for (int x = 0; x < columns.size(); ++x)
        CHECK(at(y, x) == serial[static_cast<std::size_t>((rows.first + y) * nx + columns.first + x)]);
    }
  }
}

TEST_CASE("a halo that cannot be is an error, and one round runs at a time") {
  const auto code_of = [](auto call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return Errc::other;
  };
  const Cart grid(world(), {.dims = {0, 0}});
  std::vector<double> field(100);
  CHECK(code_of([&] { Halo(grid, grid_view(field.data(), {100})); }) == Errc::dims);
  CHECK(code_of([&] { Halo(grid, grid_view(field.data(), {50, 2})); }) == Errc::dims);
  CHECK(code_of([&] { Halo(grid, grid_view(field.data(), {10, 10}), {.widths = {1}}); }) == Errc::dims);
  CHECK(code_of([&] { Halo(Cart(), grid_view(field.data(), {10, 10})); }) == Errc::comm);
  Halo halo(grid, grid_view(field.data(), {10, 10}));
  {
    const auto exchange = halo.start();
    CHECK(code_of([&] { static_cast<void>(halo.start()); }) == Errc::request);
  }
  Halo moved = std::move(halo);
  moved.exchange();
  CHECK(code_of([&] { halo.exchange(); }) == Errc::request);
}

}  // namespace
}  // namespace manyhands::mpi
