#pragma once
// TypeAttributeKey, WindowAttributeKey: values that travel with a datatype or stand at a window, as
// AttributeKey's do with communicators.
//
//   const mpi::WindowAttributeKey<std::string> purpose;
//   const mpi::Window<double> ghosts(comm, nx);
//   purpose.set(ghosts, "ghost cells");
//   if (const std::string* what = purpose.get(ghosts)) std::puts(what->c_str());

#include <memory>
#include <utility>

#include "manyhands/mpi/datatype.hpp"
#include "manyhands/mpi/error.hpp"
#include "manyhands/mpi/lifetime.hpp"
#include "manyhands/mpi/window.hpp"

namespace manyhands::mpi {

// One key per purpose, for the process's life; a dup()ed datatype gets a copy of the value. The value goes
// with the datatype, when that is freed.
template <class T>
class TypeAttributeKey {
 public:
  TypeAttributeKey() {
    detail::require_active("TypeAttributeKey");
    detail::check(MPI_Type_create_keyval(&copy, &destroy, &key_, nullptr), "TypeAttributeKey");
  }
  TypeAttributeKey(const TypeAttributeKey&) = delete;
  TypeAttributeKey& operator=(const TypeAttributeKey&) = delete;
  ~TypeAttributeKey() {
    if (is_active()) MPI_Type_free_keyval(&key_);
  }

  void set(const Datatype& type, T value) const {
    detail::require_active("TypeAttributeKey::set");
    auto held = std::make_unique<T>(std::move(value));
    detail::check(MPI_Type_set_attr(type.native(), key_, held.get()), "TypeAttributeKey::set");
    static_cast<void>(held.release());  // destroy() deletes it
  }
  // The value, null if there is none; valid until it is set again or erased.
  T* get(const Datatype& type) const {
    detail::require_active("TypeAttributeKey::get");
    T* value = nullptr;
    int found = 0;
    detail::check(MPI_Type_get_attr(type.native(), key_, static_cast<void*>(&value), &found),
                  "TypeAttributeKey::get");
    return found != 0 ? value : nullptr;
  }
  void erase(const Datatype& type) const {
    detail::require_active("TypeAttributeKey::erase");
    detail::check(MPI_Type_delete_attr(type.native(), key_), "TypeAttributeKey::erase");
  }

 private:
  static int copy(MPI_Datatype, int, void*, void* from, void* to, int* flag) {
    *static_cast<T**>(to) = new T(*static_cast<T*>(from));
    *flag = 1;
    return MPI_SUCCESS;
  }
  static int destroy(MPI_Datatype, int, void* value, void*) {
    delete static_cast<T*>(value);
    return MPI_SUCCESS;
  }
  int key_ = MPI_KEYVAL_INVALID;
};

// The same for windows; each rank has its own value.
template <class T>
class WindowAttributeKey {
 public:
  WindowAttributeKey() {
    detail::require_active("WindowAttributeKey");
    detail::check(MPI_Win_create_keyval(MPI_WIN_NULL_COPY_FN, &destroy, &key_, nullptr),
                  "WindowAttributeKey");
  }
  WindowAttributeKey(const WindowAttributeKey&) = delete;
  WindowAttributeKey& operator=(const WindowAttributeKey&) = delete;
  ~WindowAttributeKey() {
    if (is_active()) MPI_Win_free_keyval(&key_);
  }

  void set(const WindowBase& window, T value) const {
    auto held = std::make_unique<T>(std::move(value));
    detail::check(MPI_Win_set_attr(live(window, "WindowAttributeKey::set"), key_, held.get()),
                  "WindowAttributeKey::set");
    static_cast<void>(held.release());  // destroy() deletes it
  }
  T* get(const WindowBase& window) const {
    T* value = nullptr;
    int found = 0;
    detail::check(
        MPI_Win_get_attr(live(window, "WindowAttributeKey::get"), key_, static_cast<void*>(&value), &found),
        "WindowAttributeKey::get");
    return found != 0 ? value : nullptr;
  }
  void erase(const WindowBase& window) const {
    detail::check(MPI_Win_delete_attr(live(window, "WindowAttributeKey::erase"), key_),
                  "WindowAttributeKey::erase");
  }

 private:
  static MPI_Win live(const WindowBase& window, const char* verb) {
    detail::require_active(verb);
    if (!window) detail::fail(Errc::win, verb, {}, "the window is empty: moved from, or freed");
    return window.native();
  }
  static int destroy(MPI_Win, int, void* value, void*) {
    delete static_cast<T*>(value);
    return MPI_SUCCESS;
  }
  int key_ = MPI_KEYVAL_INVALID;
};

}  // namespace manyhands::mpi
