CLASSES = ("normal", "x")

def draw(rng, label, size, difficulty):
    raise NotImplementedError
