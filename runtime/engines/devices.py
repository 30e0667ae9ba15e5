"""Device names: `cpu`, `cuda`, `cuda:N`, or several GPUs as `cuda:0,cuda:1`."""

from pairscore.runtime.errors import PairscoreError


def split_devices(text: str) -> tuple[str, ...]:
    """The devices that `text` names. Each may be named once, and all are of one kind: two kinds differ in the last
    bits.

    Raises PairscoreError for anything else.
    """
    devices = tuple(each.strip() for each in text.split(","))
    for device in devices:
        kind, _, index = device.partition(":")
        if device not in ("cpu", "cuda") and not (kind == "cuda" and index.isdecimal()):
            raise PairscoreError(f"unknown device {device!r}: use cpu, cuda, cuda:N, or several as cuda:0,cuda:1")
    numbers = [device_index(device) for device in devices]
    if len(devices) > 1 and ("cpu" in devices or len(set(numbers)) < len(numbers)):
        raise PairscoreError(f"devices {text!r} are not different GPUs: name each once, as in cuda:0,cuda:1")
    return devices


def device_index(device: str) -> int:
    """The number of a GPU; 0 where none is given."""
    return int(device.partition(":")[2] or 0)
