// replaced by the layer's own sources
