"""How bands are normalised where a method does not say otherwise."""


def mean(channels: int) -> tuple[float, ...]:
    """ImageNet's for three bands, else the middle of the range."""
    return (0.485, 0.456, 0.406) if channels == 3 else (0.5,) * channels


def std(channels: int) -> tuple[float, ...]:
    """ImageNet's for three bands, else a quarter of the range."""
    return (0.229, 0.224, 0.225) if channels == 3 else (0.25,) * channels
