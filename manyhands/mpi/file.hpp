#pragma once
// File: one file that all ranks read and write together (MPI-IO).
//
//   mpi::File f(world, "out.bin", mpi::Mode::create | mpi::Mode::write);
//   f.write_at_all(world.rank() * block.size(), block);            // each its block, together
//   auto header = f.read_at<Header>(0);                            // a plain value
//   auto part = f.read_at<std::vector<double>>(1000, 50);          // up to 50 elements from the 1000th on
//
// Plain values, flat ranges and Buffers are written and read as their bytes. Offsets count elements of the
// data that is given: element 10 of doubles begins at byte 80. A std::array is a range: its offset counts its
// own elements. Under a view (set_view) they count such elements along the bytes that the view shows. Offsets
// without data count bytes, unless a type is named: seek<double>(10).
//
// Three kinds of place: explicit (_at), the position of this rank, and one position that all ranks share
// (_shared, _ordered). Verbs with _all and _ordered are collective: all ranks call them, and the MPI joins
// their accesses. Reads return how much there was (Status::count): less at the end of the file, where the
// position then is.
//
// Errors: mpi::Error with the file's name and class no_such_file, access, file_exists, bad_file (a
// directory), no_space, read_only, amode, ... Source: MPI 3.1, chapter 13.

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "manyhands/mpi/comm.hpp"
#include "manyhands/mpi/given.hpp"
#include "manyhands/mpi/slots.hpp"

namespace manyhands::mpi {

// How a file is opened; combined with |. read | write is both.
enum class Mode : std::uint16_t {
  read = 1,
  write = 2,
  create = 4,     // if it does not exist
  exclusive = 8,  // with create: throws Error (file_exists) if it exists
  append = 16,    // positions begin at its end
  delete_on_close = 32,
  unique_open = 64,  // promise: nobody else has it open
  sequential = 128,  // promise: shared position only
  truncate = 256,    // with write: begins empty (manyhands' own)
};
constexpr Mode operator|(Mode a, Mode b) noexcept {
  return static_cast<Mode>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr bool has(Mode all, Mode one) noexcept {
  return (static_cast<unsigned>(all) & static_cast<unsigned>(one)) != 0;
}

enum class Whence : int { begin = MPI_SEEK_SET, current = MPI_SEEK_CUR, end = MPI_SEEK_END };

namespace detail {

enum class FileVerb : std::uint8_t { at, at_all, own, own_all, shared, ordered };

struct FileState;

// What is read of data that lies as a datatype says, and that the file's end cuts within one: side by side
// first, then spread.
struct Spread {
  std::vector<std::byte> bytes;
  Buffer into;
  // `bytes` were read. The rest of `into` stays as it is.
  void finish() const;
};

// A request of a file, and the datatype made for it: MPICH's files need it until the request is done.
struct FileRequest {
  MPI_Request native = MPI_REQUEST_NULL;
  Datatype type = {};
  MPI_Count limit = -1;  // bytes that are there to be read; -1: what MPI reports is true
  bool done = false;     // nothing is under way: `limit` bytes were read
  Spread spread = {};

  void finish(MPI_Status& status) const {
    MPI_Status_set_cancelled(&status, 0);  // Open MPI leaves it unset for files
    if (done || (limit >= 0 && bytes_of(status) > limit)) MPI_Status_set_elements_x(&status, MPI_BYTE, limit);
    spread.finish();
  }
};

// A request whose data is lent.
class FileLent final : public Yields<void> {
 public:
  explicit FileLent(FileRequest started) : started_(std::move(started)) {}
  bool advance(MPI_Request&, MPI_Status& status) override {
    started_.finish(status);
    return true;
  }

 private:
  FileRequest started_;
};

// Data read by a request: a vector is shortened to what there was.
template <class T>
class FileRead final : public Yields<T> {
 public:
  explicit FileRead(std::size_t n) {
    if constexpr (Resizable<T>) value_.resize(n);
  }
  bool advance(MPI_Request&, MPI_Status& status) override {
    started.finish(status);
    const MPI_Count bytes = bytes_of(status);
    if constexpr (Resizable<T>) {
      value_.resize(static_cast<std::size_t>(bytes) / sizeof(std::ranges::range_value_t<T>));
    } else if (bytes != static_cast<MPI_Count>(sizeof(T))) {
      fail(Errc::truncate, "File::iread", {}, "the file ends before the value does");
    }
    return true;
  }
  T take() override { return std::move(value_); }
  T& value() noexcept { return value_; }
  FileRequest started;

 private:
  T value_{};
};

}  // namespace detail

struct ViewOptions {
  std::string representation = "native";  // or "external32", "internal", where the MPI has them
  Info info = {};
};

// A resource: moved, not copied; one thread.
class File {
 public:
  // Opens the file on all ranks of `comm`; collective, all ranks give the same name and mode. Info holds
  // hints ("cb_buffer_size", "striping_unit", ...).
  File(const Comm& comm, const std::string& path, Mode mode, const Info& info = {});
  // Raw handles in: takes ownership, or refers to one that another closes (also Fortran's). Errors on an
  // adopted file are exceptions; on a viewed one its owner's handler decides.
  static File adopt(MPI_File raw);
  static File view(MPI_File raw);
  static File from_fortran(MPI_Fint handle) { return view(MPI_File_f2c(handle)); }
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  // Closes; collective. Ends a split collective that is under way. When an exception leaves its scope it
  // leaves that to MPI's end, since the other ranks may not come before.
  ~File();
  // Closes now and throws Error if that fails; collective.
  void close();

  // ---- Writing. Blocks until the data may be changed.

  template <class D>
  [[gnu::always_inline]] void write_at(MPI_Offset offset, const D& data) const {
    write_in(detail::FileVerb::at, offset, detail::given(data));
  }
  template <class D>
  [[gnu::always_inline]] void write_at_all(MPI_Offset offset, const D& data) const {
    write_in(detail::FileVerb::at_all, offset, detail::given(data));
  }
  // At this rank's position, which moves on.
  template <class D>
  [[gnu::always_inline]] void write(const D& data) const {
    write_in(detail::FileVerb::own, 0, detail::given(data));
  }
  template <class D>
  [[gnu::always_inline]] void write_all(const D& data) const {
    write_in(detail::FileVerb::own_all, 0, detail::given(data));
  }
  // At the shared position: one rank after the other, in any order; or in the order of the ranks.
  template <class D>
  [[gnu::always_inline]] void write_shared(const D& data) const {
    write_in(detail::FileVerb::shared, 0, detail::given(data));
  }
  template <class D>
  [[gnu::always_inline]] void write_ordered(const D& data) const {
    write_in(detail::FileVerb::ordered, 0, detail::given(data));
  }

  // ---- Reading into memory that is there: a span, vector (as large as it is), plain value or Buffer.

  template <class D>
    requires Direct<D>
  Status read_at(MPI_Offset offset, D&& data) const {
    return transfer(false, detail::FileVerb::at, offset, as_writable(data), unit_of<D>());
  }
  template <class D>
    requires Direct<D>
  Status read_at_all(MPI_Offset offset, D&& data) const {
    return transfer(false, detail::FileVerb::at_all, offset, as_writable(data), unit_of<D>());
  }
  template <class D>
    requires Direct<D>
  Status read(D&& data) const {
    return transfer(false, detail::FileVerb::own, 0, as_writable(data), unit_of<D>());
  }
  template <class D>
    requires Direct<D>
  Status read_all(D&& data) const {
    return transfer(false, detail::FileVerb::own_all, 0, as_writable(data), unit_of<D>());
  }
  template <class D>
    requires Direct<D>
  Status read_shared(D&& data) const {
    return transfer(false, detail::FileVerb::shared, 0, as_writable(data), unit_of<D>());
  }
  template <class D>
    requires Direct<D>
  Status read_ordered(D&& data) const {
    return transfer(false, detail::FileVerb::ordered, 0, as_writable(data), unit_of<D>());
  }

  // By value: a plain T (Error truncate if the file ends before it does), or a vector or string of up to `n`
  // elements, as many as there are.
  template <class T>
  T read_at(MPI_Offset offset, std::size_t n = 1) const {
    return read_in<T>(detail::FileVerb::at, offset, n);
  }
  template <class T>
  T read_at_all(MPI_Offset offset, std::size_t n = 1) const {
    return read_in<T>(detail::FileVerb::at_all, offset, n);
  }
  template <class T>
  T read(std::size_t n = 1) const {
    return read_in<T>(detail::FileVerb::own, 0, n);
  }
  template <class T>
  T read_all(std::size_t n = 1) const {
    return read_in<T>(detail::FileVerb::own_all, 0, n);
  }
  template <class T>
  T read_shared(std::size_t n = 1) const {
    return read_in<T>(detail::FileVerb::shared, 0, n);
  }
  template <class T>
  T read_ordered(std::size_t n = 1) const {
    return read_in<T>(detail::FileVerb::ordered, 0, n);
  }

  // ---- Nonblocking. An rvalue is owned by the request and given back by get(); a span or Buffer is lent.
  // Reads by value give a vector of what there was. With Open MPI 4.1 iread_shared blocks: beyond the end it
  // would never be done.

  template <class D>
  auto iwrite_at(MPI_Offset offset, D&& data) const {
    return iwrite_in(detail::FileVerb::at, offset, std::forward<D>(data));
  }
  template <class D>
  auto iwrite_at_all(MPI_Offset offset, D&& data) const {
    return iwrite_in(detail::FileVerb::at_all, offset, std::forward<D>(data));
  }
  template <class D>
  auto iwrite(D&& data) const {
    return iwrite_in(detail::FileVerb::own, 0, std::forward<D>(data));
  }
  template <class D>
  auto iwrite_all(D&& data) const {
    return iwrite_in(detail::FileVerb::own_all, 0, std::forward<D>(data));
  }
  template <class D>
  auto iwrite_shared(D&& data) const {
    return iwrite_in(detail::FileVerb::shared, 0, std::forward<D>(data));
  }
  template <class D>
    requires Direct<D>
  Request<void> iread_at(MPI_Offset offset, D&& data) const {
    return iread_into(detail::FileVerb::at, offset, data);
  }
  template <class D>
    requires Direct<D>
  Request<void> iread_at_all(MPI_Offset offset, D&& data) const {
    return iread_into(detail::FileVerb::at_all, offset, data);
  }
  template <class D>
    requires Direct<D>
  Request<void> iread(D&& data) const {
    return iread_into(detail::FileVerb::own, 0, data);
  }
  template <class D>
    requires Direct<D>
  Request<void> iread_all(D&& data) const {
    return iread_into(detail::FileVerb::own_all, 0, data);
  }
  template <class D>
    requires Direct<D>
  Request<void> iread_shared(D&& data) const {
    return iread_into(detail::FileVerb::shared, 0, data);
  }
  template <class T>
  Request<T> iread_at(MPI_Offset offset, std::size_t n = 1) const {
    return iread_in<T>(detail::FileVerb::at, offset, n);
  }
  template <class T>
  Request<T> iread_at_all(MPI_Offset offset, std::size_t n = 1) const {
    return iread_in<T>(detail::FileVerb::at_all, offset, n);
  }
  template <class T>
  Request<T> iread(std::size_t n = 1) const {
    return iread_in<T>(detail::FileVerb::own, 0, n);
  }
  template <class T>
  Request<T> iread_all(std::size_t n = 1) const {
    return iread_in<T>(detail::FileVerb::own_all, 0, n);
  }
  template <class T>
  Request<T> iread_shared(std::size_t n = 1) const {
    return iread_in<T>(detail::FileVerb::shared, 0, n);
  }

  // ---- Split: a collective in two halves, one at a time for each file. The data stays until end().

  class Split {
   public:
    Split(Split&& other) noexcept : state_(std::move(other.state_)), number_(other.number_) {}
    Split& operator=(Split&&) = delete;
    ~Split();
    // Blocks until the data was read, or may be changed. Collective. Throws Error (file) if the file was
    // closed, which ended it.
    Status end();

   private:
    friend class File;
    Split(std::shared_ptr<detail::FileState> state, unsigned number) noexcept
        : state_(std::move(state)), number_(number) {}
    std::shared_ptr<detail::FileState> state_;  // shared with the file, which may be closed first
    unsigned number_;                           // of this operation
  };
  template <class D>
  [[nodiscard]] Split write_at_all_begin(MPI_Offset offset, const D& data) const {
    return begin(true, detail::FileVerb::at_all, offset, writable_anyway(as_buffer(data)), unit_of<D>());
  }
  template <class D>
  [[nodiscard]] Split write_all_begin(const D& data) const {
    return begin(true, detail::FileVerb::own_all, 0, writable_anyway(as_buffer(data)), unit_of<D>());
  }
  template <class D>
  [[nodiscard]] Split write_ordered_begin(const D& data) const {
    return begin(true, detail::FileVerb::ordered, 0, writable_anyway(as_buffer(data)), unit_of<D>());
  }
  template <class D>
  [[nodiscard]] Split read_at_all_begin(MPI_Offset offset, D&& data) const {
    return begin(false, detail::FileVerb::at_all, offset, as_writable(data), unit_of<D>());
  }
  template <class D>
  [[nodiscard]] Split read_all_begin(D&& data) const {
    return begin(false, detail::FileVerb::own_all, 0, as_writable(data), unit_of<D>());
  }
  template <class D>
  [[nodiscard]] Split read_ordered_begin(D&& data) const {
    return begin(false, detail::FileVerb::ordered, 0, as_writable(data), unit_of<D>());
  }

  // ---- Positions, in elements of T.

  template <Plain T = std::byte>
  void seek(MPI_Offset offset, Whence whence = Whence::begin) const {
    seek_bytes(in_bytes(offset, sizeof(T), "File::seek"), whence, false);
  }
  template <Plain T = std::byte>
  MPI_Offset position() const {
    return position_bytes(false) / static_cast<MPI_Offset>(sizeof(T));
  }
  // Of the shared position; collective.
  template <Plain T = std::byte>
  void seek_shared(MPI_Offset offset, Whence whence = Whence::begin) const {
    seek_bytes(in_bytes(offset, sizeof(T), "File::seek_shared"), whence, true);
  }
  template <Plain T = std::byte>
  MPI_Offset position_shared() const {
    return position_bytes(true) / static_cast<MPI_Offset>(sizeof(T));
  }

  // ---- Views: which bytes of the file this rank sees. Collective; resets the positions.

  // From byte `displacement` on, the data that `filetype` selects, over and over; it is made of `etype`s.
  // Accesses begin at multiples of the etype.
  void set_view(MPI_Offset displacement, MPI_Datatype etype, MPI_Datatype filetype,
                const ViewOptions& options = {});
  template <Plain T>
  void set_view(MPI_Offset displacement, const Datatype& filetype, const ViewOptions& options = {}) {
    set_view(displacement, detail::element_type<T>(), filetype.native(), options);
  }
  template <Plain T>
  void set_view(MPI_Offset displacement) {
    set_view(displacement, detail::element_type<T>(), detail::element_type<T>());
  }
  // The whole file again, as bytes.
  void reset_view() { set_view(0, MPI_BYTE, MPI_BYTE); }
  // Where the byte at `offset` (in elements of T, along the view) lies in the file.
  template <Plain T = std::byte>
  MPI_Offset byte_offset(MPI_Offset offset) const {
    return absolute(in_bytes(offset, sizeof(T), "File::byte_offset"));
  }
  // Bytes from one element of `type` to the next in this file: with the representation "native" the extent in
  // memory.
  MPI_Offset type_extent(const Datatype& type) const;
  MPI_Offset view_displacement() const;
  std::string view_representation() const;

  // ---- The file itself.

  MPI_Offset size() const;                   // bytes
  void set_size(MPI_Offset bytes) const;     // cuts or extends; collective
  void preallocate(MPI_Offset bytes) const;  // makes sure that there is room; collective
  // What was written reaches the disk, and is seen by others who sync() after; collective.
  void sync() const;
  // Whether ranks see each other's writes at once. Collective.
  void set_atomicity(bool on) const;
  bool atomicity() const;
  Mode mode() const;
  Info info() const;
  void set_info(const Info& info) const;  // collective
  Group group() const;
  const std::string& path() const&;
  std::string path() && { return std::as_const(*this).path(); }
  MPI_File native() const noexcept;
  // Gives the raw handle away; who takes it closes it. This object is closed then.
  MPI_File release() noexcept;
  MPI_Fint to_fortran() const { return MPI_File_c2f(native()); }
  explicit operator bool() const noexcept { return state_ != nullptr; }

 private:
  File();
  static File of_handle(MPI_File raw, const char* path, const char* verb);
  static Buffer writable_anyway(ConstBuffer data) noexcept {
    return {const_cast<void*>(data.data), data.count, data.type};  // for calls that only read it
  }
  // Bytes of one element of the data; 0: that of the buffer's datatype.
  template <class D>
  static constexpr MPI_Offset unit_of() {
    using U = std::remove_cvref_t<D>;
    if constexpr (BufferLike<U>) {
      return 0;
    } else if constexpr (Flat<U>) {
      return sizeof(std::ranges::range_value_t<U>);
    } else {
      return sizeof(U);
    }
  }
  Status transfer(bool write, detail::FileVerb verb, MPI_Offset offset, Buffer data, MPI_Offset unit) const;
  detail::FileRequest start(bool write, detail::FileVerb verb, MPI_Offset offset, Buffer data,
                            MPI_Offset unit) const;
  Split begin(bool write, detail::FileVerb verb, MPI_Offset offset, Buffer data, MPI_Offset unit) const;
  // Throws Error (arg) if that is more than an offset can be.
  MPI_Offset in_bytes(MPI_Offset offset, std::size_t unit, const char* verb) const;
  void seek_bytes(MPI_Offset bytes, Whence whence, bool shared) const;
  MPI_Offset position_bytes(bool shared) const;
  MPI_Offset absolute(MPI_Offset bytes) const;
  [[noreturn]] void fail_end(detail::FileVerb verb, MPI_Count bytes, std::size_t wanted) const;

  template <class D>
  void write_in(detail::FileVerb verb, MPI_Offset offset, const D& data) const {
    static_assert(Direct<D>,
                  "files take plain values, flat ranges and Buffers: pack other objects (wire::to_bytes)");
    transfer(true, verb, offset, writable_anyway(as_buffer(data)), unit_of<D>());
  }
  template <class T>
  T read_in(detail::FileVerb verb, MPI_Offset offset, std::size_t n) const {
    static_assert(Plain<T> || Resizable<T>, "files give plain values, vectors and strings");
    if constexpr (Plain<T>) {
      T value{};
      const Status status = transfer(false, verb, offset, as_writable(value), unit_of<T>());
      if (status.bytes != static_cast<MPI_Count>(sizeof(T))) fail_end(verb, status.bytes, sizeof(T));
      return value;
    } else {
      T values;
      values.resize(n);
      const Status status = transfer(false, verb, offset, as_writable(values), unit_of<T>());
      values.resize(static_cast<std::size_t>(status.bytes / unit_of<T>()));
      return values;
    }
  }
  template <class D>
  auto iwrite_in(detail::FileVerb verb, MPI_Offset offset, D&& data) const {
    using U = std::remove_cvref_t<D>;
    static_assert(Direct<D>, "files take plain values, flat ranges and Buffers");
    if constexpr (detail::Lent<D>) {
      return lent(start(true, verb, offset, writable_anyway(as_buffer(data)), unit_of<D>()), "File::iwrite");
    } else {
      static_assert(
          Plain<U> || !std::is_lvalue_reference_v<D>,
          "iwrite of an lvalue container: move it in (get() gives it back), or lend std::span(container)");
      using Both = std::pair<U, Datatype>;
      auto owned = std::make_unique<detail::HoldsFirst<Both>>(Both(std::forward<D>(data), Datatype()));
      detail::FileRequest started =
          start(true, verb, offset, writable_anyway(as_buffer(owned->value().first)), unit_of<D>());
      owned->value().second = std::move(started.type);
      return Request<U>(
          detail::RequestCore(started.native, std::move(owned), "File::iwrite", detail::Dropped::wait));
    }
  }
  template <class D>
  Request<void> iread_into(detail::FileVerb verb, MPI_Offset offset, D& data) const {
    return lent(start(false, verb, offset, as_writable(data), unit_of<D>()), "File::iread");
  }
  template <class T>
  Request<T> iread_in(detail::FileVerb verb, MPI_Offset offset, std::size_t n) const {
    static_assert(Plain<T> || Resizable<T>, "files give plain values, vectors and strings");
    auto owned = std::make_unique<detail::FileRead<T>>(n);
    detail::FileRequest started = start(false, verb, offset, as_writable(owned->value()), unit_of<T>());
    const MPI_Request native = started.native;
    owned->started = std::move(started);
    return Request<T>(detail::RequestCore(native, std::move(owned), "File::iread", detail::Dropped::wait));
  }
  static Request<void> lent(detail::FileRequest started, const char* verb) {
    const MPI_Request native = started.native;
    auto kept = std::make_unique<detail::FileLent>(std::move(started));
    return Request<void>(detail::RequestCore(native, std::move(kept), verb, detail::Dropped::wait));
  }

  std::shared_ptr<detail::FileState> state_;  // shared with Split, and with MPI's end
};

// Deletes a file. Not collective. Throws Error (no_such_file, ...).
void delete_file(const std::string& path, const Info& info = {});

}  // namespace manyhands::mpi
