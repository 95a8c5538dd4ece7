"""Rows: whatever holds them, they read and write as a tensor would."""

import pytest
import torch

from fidelity.errors import RefusedError
from fidelity.imaging.resample import resize
from fidelity.imaging.rows import (
    FileRows,
    MappedRows,
    PartRows,
    Resized,
    TensorRows,
    check_room,
    copy_rows,
    image_of,
    read_all,
    resize_rows,
)


@pytest.fixture(params=[TensorRows, FileRows])
def new_rows(request):
    """Creates rows of a shape, in memory or in a file."""
    return FileRows if request.param is FileRows else lambda shape: TensorRows(torch.zeros(shape))


def test_what_was_written_is_read_back(new_rows, random_image):
    image = random_image(1, 3, 40, 24)
    rows = new_rows((1, 3, 40, 24))
    for part in (slice(30, 40), slice(0, 7), slice(7, 30)):
        rows.write(part, image[:, :, part])
    for part in (slice(0, 40), slice(5, 9), slice(39, 40)):
        assert (rows.read(part) - image[:, :, part]).abs().max() <= 0.6 / 65535


def test_a_file_clips_to_its_range_and_disappears(tmp_path):
    rows = FileRows((1, 1, 1, 4), low=-1.0, high=2.0, folder=tmp_path)
    rows.write(slice(0, 1), torch.tensor([-3.0, -0.5, 0.0, 9.0]).reshape(1, 1, 1, 4))
    assert torch.allclose(rows.read(slice(0, 1)).flatten(), torch.tensor([-1.0, -0.5, 0.0, 2.0]), atol=3e-5)
    del rows
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [(80, 48), (61, 31), (20, 12), (13, 100), (40, 24)])
def test_resizing_by_rows_is_resizing(new_rows, random_image, monkeypatch, size):
    image = random_image(1, 3, 40, 24)
    expected = resize(image, size).clamp(0, 1)
    target = new_rows((1, 3, *size))
    monkeypatch.setattr("fidelity.imaging.bands.CPU_BAND_BYTES", 3000)
    resize_rows(TensorRows(image), target)
    assert (read_all(target) - expected).abs().max() < 2e-5
    resized = Resized(TensorRows(image), size)
    assert torch.allclose(resized.read(slice(3, 9)).clamp(0, 1), expected[:, :, 3:9], atol=1e-5)


def test_channels_that_are_not_part_keep_their_values(new_rows, random_image):
    image = random_image(1, 4, 10, 6)
    rows = new_rows((1, 4, 10, 6))
    copy_rows(TensorRows(image), rows)
    colors = PartRows(rows, slice(0, 3))
    assert colors.shape == (1, 3, 10, 6)
    colors.write(slice(2, 5), torch.zeros(1, 3, 3, 6))
    assert (read_all(rows)[:, 3:] - image[:, 3:]).abs().max() < 1e-4
    assert read_all(rows)[:, :3, 2:5].abs().max() == 0


def test_mapped_rows_go_through_their_function_and_back(random_image):
    image = random_image(1, 3, 8, 6)
    doubled = MappedRows(TensorRows(image.clone()), lambda band: band * 2, 3, lambda band: band / 2)
    assert torch.equal(doubled.read(slice(1, 4)), image[:, :, 1:4] * 2)
    doubled.write(slice(0, 8), image)
    assert torch.equal(doubled.read(slice(0, 8)), image)


def test_one_image_of_a_batch_shares_its_memory(random_image):
    batch = TensorRows(random_image(3, 1, 4, 4))
    image_of(batch, 1).write(slice(0, 4), torch.zeros(1, 1, 4, 4))
    assert [one.abs().max().item() == 0 for one in batch.image] == [False, True, False]


def test_too_little_room_is_refused_before_any_work(tmp_path):
    check_room(tmp_path, 1)
    with pytest.raises(RefusedError, match=r"needs 931322574\.6 GiB for temporary files, .* GiB are free; wanted more room"):
        check_room(tmp_path, 10**18)
