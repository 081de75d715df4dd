// OpenVINO's engine, and a mark while it works: what it allocates is told apart from what the library does.
#pragma once

#include <cstdint>

#include "fastretina.h"

struct Marked {
  fastretina_engine inner;
  void (*mark)(bool inside);

  static Marked& of(void* user) { return *static_cast<Marked*>(user); }
};

struct MarkedInstance {
  Marked* engine;
  void* inner;
};

// `m` lives as long as the model. One session calls the engine, from one thread.
inline fastretina_engine marked(Marked& m) {
  fastretina_engine e = m.inner;
  e.user = &m;
  e.supports = [](void* user, fastretina_precision p) {
    return Marked::of(user).inner.supports(Marked::of(user).inner.user, p);
  };
  e.open = [](void* user, const fastretina_network* network, std::int32_t threads, void** instance) {
    Marked& engine = Marked::of(user);
    auto* made = new MarkedInstance{&engine, nullptr};
    engine.mark(true);
    const fastretina_error error = engine.inner.open(engine.inner.user, network, threads, &made->inner);
    engine.mark(false);
    if (error == FASTRETINA_SUCCESS)
      *instance = made;
    else
      delete made;
    return error;
  };
  e.run = [](void* instance, const fastretina_plane* plane, fastretina_maps* maps) {
    auto& i = *static_cast<MarkedInstance*>(instance);
    i.engine->mark(true);
    const fastretina_error error = i.engine->inner.run(i.inner, plane, maps);
    i.engine->mark(false);
    return error;
  };
  e.close = [](void* instance) {
    auto* i = static_cast<MarkedInstance*>(instance);
    i->engine->inner.close(i->inner);
    delete i;
  };
  e.release = [](void* user) { Marked::of(user).inner.release(Marked::of(user).inner.user); };
  return e;
}
