"""Name the parts of attention that a weight holds: queries, keys, values, output."""

from collections.abc import Iterable

QUERY, KEY, VALUE, OUTPUT = "query", "key", "value", "output"

PARTS = {
    "qkv": (QUERY, KEY, VALUE),
    "kv": (KEY, VALUE),
    **{name + end: (part,) for name, part in (("q", QUERY), ("k", KEY), ("v", VALUE)) for end in ("", "_proj")},
    "proj": (OUTPUT,),
    "out_proj": (OUTPUT,),
}
"""The parts that a linear layer of attention holds, by the layer's name in timm.

The rows of a weight are grouped by part, then by head. Of the output layer the columns are grouped by head.
"""


def parts_of(name: str) -> tuple[str, ...]:
    """Return the parts that the attention weight ``name`` holds, e.g. ``(query, key, value)`` of a fused one.

    Raises:
        KeyError: no layer of attention has that name.
    """
    return PARTS[name.removesuffix(".weight").rpartition(".")[2]]


def attention_parts(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the parts of attention that the weight ``name`` holds; () if it is no weight of attention.

    Args:
        names: all weights of the model. A layer belongs to attention if one beside it makes the queries.
    """
    layer, _, kind = name.rpartition(".")
    parent, _, last = layer.rpartition(".")
    siblings = {other.removeprefix(parent + ".").removesuffix(".weight") for other in names}
    has_queries = any(QUERY in PARTS.get(sibling, ()) for sibling in siblings)
    return PARTS.get(last, ()) if kind == "weight" and has_queries else ()
