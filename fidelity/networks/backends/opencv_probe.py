"""Reads a TensorFlow graph with OpenCV and runs it once, as a script: on some damaged graphs OpenCV takes the process down.

The graph comes on standard input. One line of JSON goes out: `{"channels": …, "scale": …}`, or `{"failures": […]}`.
"""

import json
import sys
from pathlib import Path

_PROBE_PX = 16
_MOST_BYTES = 2**32


def main() -> None:
    own = Path(__file__).parent  # whose modules have the names of libraries
    sys.path[:] = [place for place in sys.path if not place or Path(place) != own]
    try:
        import cv2
        import cv2.dnn_superres
        import numpy as np
    except ImportError as error:
        print(json.dumps({"failures": [f"OpenCV does not load in a process of its own ({error})"]}))
        return
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, resource.RLIM_INFINITY))
    except (ImportError, ValueError, OSError):  # Windows, or a lower limit that holds already
        pass
    content = np.frombuffer(sys.stdin.buffer.read(), np.uint8)
    failures: list[str] = []
    # Registers the one operation that OpenCV lacks by default.
    cv2.dnn_superres.DnnSuperResImpl_create()  # pyright: ignore[reportAttributeAccessIssue]
    for channels in (1, 3):
        try:
            net = cv2.dnn.readNetFromTensorflow(content)  # a graph that failed once does not run again
            net.setInput(np.zeros((1, channels, _PROBE_PX, _PROBE_PX), np.float32))
            height, width = np.asarray(net.forward()).shape[2:]
        except (cv2.error, ValueError, MemoryError) as error:
            failures.append(" ".join(getattr(error, "err", str(error)).split()) or type(error).__name__)
            continue
        if height == width and height >= _PROBE_PX and height % _PROBE_PX == 0:
            print(json.dumps({"channels": channels, "scale": height // _PROBE_PX}))
            return
    print(json.dumps({"failures": failures}))


if __name__ == "__main__":
    main()
