// The extension module `sememe.kernels._native`. Each kernel binds itself in its own file.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "level.h"

namespace nb = nanobind;

void bind_additive(nb::module_& m);
void bind_bags(nb::module_& m);
void bind_impact(nb::module_& m);
void bind_sparse(nb::module_& m);
void bind_symbols(nb::module_& m);
void bind_text_vectors(nb::module_& m);
void bind_fastscan(nb::module_& m);
void bind_graph(nb::module_& m);
void bind_rescore(nb::module_& m);
void bind_row_scan(nb::module_& m);
void bind_row_steps(nb::module_& m);
void bind_select(nb::module_& m);
void bind_product(nb::module_& m);
void bind_maxsim(nb::module_& m);
void bind_pursuit(nb::module_& m);
void bind_tables(nb::module_& m);

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // encoders are kept until the process ends, and that is no leak
  m.doc() = "The compiled loops of sememe.kernels; the modules there call them and say what they do.";
  m.def("level", [] { return std::string(sememe::name(sememe::current())); }, "The dispatch level in use.");
  m.def(
      "levels",
      [] {
        std::vector<std::string> names;
        for (auto level : {sememe::Level::plain, sememe::Level::avx2, sememe::Level::neon, sememe::Level::avx512})
          if (sememe::available(level)) names.emplace_back(sememe::name(level));
        return names;
      },
      "The dispatch levels that this machine can run, slowest first.");
  m.def("use", [](const std::string& name) { return sememe::use(name.c_str()); }, nb::arg("name"),
        "Switch to a level; False where it is not available.");
  bind_additive(m);
  bind_bags(m);
  bind_impact(m);
  bind_sparse(m);
  bind_symbols(m);
  bind_text_vectors(m);
  bind_fastscan(m);
  bind_graph(m);
  bind_rescore(m);
  bind_row_scan(m);
  bind_row_steps(m);
  bind_select(m);
  bind_product(m);
  bind_maxsim(m);
  bind_pursuit(m);
  bind_tables(m);
}
