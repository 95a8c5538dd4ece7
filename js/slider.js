// Two pictures of one size on top of each other, with a slider between them: the first shows to its left, the second to its right.

const HANDLE = "2px solid rgba(255, 255, 255, 0.9)";

function layer(alt) {
  const made = document.createElement("img");
  made.alt = alt;
  made.draggable = false;
  Object.assign(made.style, { position: "absolute", inset: "0", width: "100%", height: "100%", objectFit: "contain" });
  return made;
}

// Where a picture of its own shape lies in a box that it is fitted into: [start, length], as shares of the box's width.
function shown_part(picture, box) {
  const { width, height } = box.getBoundingClientRect();
  if (!picture.naturalHeight || !width || !height) {
    return [0, 1];
  }
  const length = Math.min(1, (picture.naturalWidth * height) / (picture.naturalHeight * width));
  return [(1 - length) / 2, length];
}

export function make_slider() {
  const box = document.createElement("div");
  Object.assign(box.style, {
    position: "relative", flex: "1 1 auto", minHeight: "120px", marginTop: "4px", display: "none", overflow: "hidden",
    cursor: "ew-resize", touchAction: "none",
  });
  const first = layer("before"), second = layer("after"), line = document.createElement("div");
  Object.assign(line.style, { position: "absolute", top: "0", bottom: "0", borderLeft: HANDLE, pointerEvents: "none" });
  const control = document.createElement("input");
  Object.assign(control, { type: "range", min: "0", max: "100", step: "1", value: "50" });
  control.setAttribute("aria-label", "share of the picture before");
  Object.assign(control.style, { position: "absolute", inset: "auto 0 0 0", opacity: "0", pointerEvents: "none" });
  box.append(second, first, line, control);

  function place() {
    const [start, length] = shown_part(second, box), at = 100 * (start + (length * Number(control.value)) / 100);
    first.style.clipPath = `inset(0 ${100 - at}% 0 0)`;
    line.style.left = `${at}%`;
  }
  function follow(event) {
    const { left, width } = box.getBoundingClientRect(), [start, length] = shown_part(second, box);
    const share = ((event.clientX - left) / width - start) / length;
    control.value = String(Math.round(100 * Math.min(1, Math.max(0, share))));
    place();
  }
  box.addEventListener("pointermove", follow);
  box.addEventListener("pointerdown", (event) => {
    event.stopPropagation(); // or the canvas would move the node
    follow(event);
  });
  control.addEventListener("input", place); // by the keyboard
  second.addEventListener("load", place);
  new ResizeObserver(place).observe(box);
  for (const picture of [first, second]) {
    picture.addEventListener("error", () => { // the host no longer has it
      box.style.display = "none";
    });
  }

  function compare(addresses) {
    box.style.display = addresses ? "block" : "none";
    if (addresses) {
      [first.src, second.src] = addresses;
      place();
    }
  }
  return { box, compare };
}
