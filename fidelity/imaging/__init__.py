"""Pure tensor mathematics on images, and the only definition of the image contract.

An **image** is a float tensor of shape ``(B, C, H, W)``, sRGB-encoded, in ``[0, 1]``:

- ``C`` is 1 (grey), 3 (RGB) or 4 (RGB and straight, not premultiplied, alpha last);
- sizes are ``(height, width)`` everywhere, in this order;
- dtype is float16, bfloat16, float32 or float64, on any device, in any memory format.

Functions return new tensors of the input's dtype, device and memory format and never change their input,
unless their name ends in ``_``, like PyTorch's in-place functions. The arithmetic is done in float32
(float64 for a float64 input) over bands of rows, so that a large half-precision image never needs a
second full-size float32 copy.
"""
