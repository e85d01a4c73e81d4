// The dispatch levels. Every loop file (`*_loop.cpp`) is compiled once a level, with that level's instructions allowed
// and SEMEME_LEVEL set to its name, and puts its functions into namespace sememe::SEMEME_LEVEL. Bindings pick at run time.
//
// Loop files must not use the standard library's templates with external linkage: the linker keeps one copy of such a
// function for all levels, and it may keep the one with instructions that this machine lacks.
#pragma once

#if defined(__x86_64__)
#define SEMEME_LEVELS(each) each(plain) each(avx2) each(avx512)
#elif defined(__aarch64__)
#define SEMEME_LEVELS(each) each(plain) each(neon)
#else
#define SEMEME_LEVELS(each) each(plain)
#endif

namespace sememe {

enum class Level { plain, avx2, neon, avx512 };

// The level in use: the highest that machine and build offer, unless `use` chose another.
Level current();
const char* name(Level level);
bool use(const char* name);  // false where the name is unknown or the machine cannot run it
bool available(Level level);

}  // namespace sememe

// SEMEME_DECLARE(void f(int x);) declares the function in the namespace of every level.
#define SEMEME_DECLARE_AT_(level, ...) \
  namespace level {                    \
  __VA_ARGS__                          \
  }
#if defined(__x86_64__)
#define SEMEME_DECLARE(...)                   \
  namespace sememe {                          \
  SEMEME_DECLARE_AT_(plain, __VA_ARGS__)      \
  SEMEME_DECLARE_AT_(avx2, __VA_ARGS__)       \
  SEMEME_DECLARE_AT_(avx512, __VA_ARGS__)     \
  }
#define SEMEME_PICK(f)                                            \
  (::sememe::current() == ::sememe::Level::avx512 ? &::sememe::avx512::f \
   : ::sememe::current() == ::sememe::Level::avx2 ? &::sememe::avx2::f   \
                                                  : &::sememe::plain::f)
#elif defined(__aarch64__)
#define SEMEME_DECLARE(...)              \
  namespace sememe {                     \
  SEMEME_DECLARE_AT_(plain, __VA_ARGS__) \
  SEMEME_DECLARE_AT_(neon, __VA_ARGS__)  \
  }
#define SEMEME_PICK(f) (::sememe::current() == ::sememe::Level::neon ? &::sememe::neon::f : &::sememe::plain::f)
#else
#define SEMEME_DECLARE(...) \
  namespace sememe {        \
  SEMEME_DECLARE_AT_(plain, __VA_ARGS__) \
  }
#define SEMEME_PICK(f) (&::sememe::plain::f)
#endif
