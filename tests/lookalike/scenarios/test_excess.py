# SPDX-License-Identifier: Apache-2.0
"""A small bug, and the excess frees that it makes: the demonstration.

The model keeps its weights in a cache. When it moves a layer off the device it deallocates the layer's weights, but
leaves them in the cache; when the cache is cleared, they are deallocated again.
"""

import lookalike

LAYERS = 4


class Model:
    def __init__(self, mesh):
        self.mesh = mesh
        self.cache = lookalike.WeightCache()
        self.layers = []

    def load(self):
        for _ in range(LAYERS):
            self.load_layer()

    def load_layer(self):
        weights = self.mesh.empty(1 << 20, page_size=4096)
        self.cache.keep(weights)
        self.layers.append(weights)

    def offload_layer(self, index):
        # The bug: the cache still has it.
        self.layers[index].deallocate()

    def unload(self):
        self.cache.clear()
        self.layers.clear()


def test_model_is_unloaded(mesh):
    model = Model(mesh)
    model.load()
    model.offload_layer(0)
    model.offload_layer(1)
    model.unload()


def test_model_without_offloading(mesh):
    model = Model(mesh)
    model.load()
    model.unload()
