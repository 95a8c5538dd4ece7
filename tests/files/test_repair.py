"""Files whose pixels are all there are read, whatever is wrong beside them; others are refused for what they are."""

import io
import struct
import threading
import time
import warnings
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.files import formats
from fidelity.files.metadata import read_provenance
from fidelity.files.paths import FileRefusedError, find_images
from fidelity.files.png import make_chunk
from fidelity.files.read import read_image
from fidelity.job import FileOptions, upscale_file
from fidelity.quiet import no_warnings
from fidelity.session import Session


@pytest.fixture
def pixels(photo):
    return (photo[0].permute(1, 2, 0) * 255).byte().numpy()


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def insert(path, *chunks, before=b"IDAT"):
    content = path.read_bytes()
    place = content.index(before) - 4
    path.write_bytes(content[:place] + b"".join(chunks) + content[place:])


def is_same(path, pixels):
    return np.array_equal((read_image(path).image[0].permute(1, 2, 0) * 255).round().byte().numpy(), pixels)


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("name", [b"zTXt", b"iTXt"])
def test_long_texts_are_left_out_and_short_ones_kept(tmp_path, pixels, before, name):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "cat\nSteps: 20, Model: juggernautXL")
    path = save(tmp_path / "a.png", pixels, pnginfo=info)
    head = b"note\0\0" if name == b"zTXt" else b"note\0\1\0\0\0"
    insert(path, make_chunk(name, head + zlib.compress(b"a" * 3_000_000)), before=before)
    assert is_same(path, pixels)
    read = read_image(path)
    assert read.notes == ("a text of more than 1 MiB was left out",)
    assert read.texts["parameters"].startswith("cat")
    assert read_provenance(path).family == "sd"


def test_a_large_profile_is_kept(tmp_path, pixels):
    from fidelity.files.color_tags import make_profile

    profile = make_profile((0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329), (2.2,))
    profile += np.random.default_rng(0).bytes(1_500_000)
    path = save(tmp_path / "a.png", pixels)
    insert(path, make_chunk(b"iCCP", b"p\0\0" + zlib.compress(profile)))
    assert is_same(path, pixels)
    assert read_image(path).icc_profile == profile


def test_damaged_side_chunks_are_left_out_and_told(tmp_path, pixels):
    path = save(tmp_path / "a.png", pixels)
    insert(path, struct.pack(">I", 4) + b"gAMA" + bytes(4) + b"\1\2\3\4")
    assert is_same(path, pixels)
    assert read_image(path).notes == ("a damaged gAMA chunk was left out",)


@pytest.mark.parametrize("cut", [1, 2, 8, 40])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_a_jpeg_without_its_last_bytes_is_read_with_a_note(tmp_path, pixels, cut, subsampling):
    path = save(tmp_path / "a.jpg", pixels, quality=90, subsampling=subsampling)
    whole = read_image(path)
    path.write_bytes(path.read_bytes()[:-cut])
    read = read_image(path)
    assert (read.image != whole.image).any(dim=1).float().mean() < 0.1
    assert cut == 1 or "the last bytes of the file are missing, but hardly any pixels" in read.notes


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_a_part_of_the_picture_is_refused(tmp_path, pixels, progressive):
    path = save(tmp_path / "a.jpg", pixels, quality=90, progressive=progressive)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(FileRefusedError, match="damaged or truncated"):
        read_image(path)


def test_a_jpeg_that_claims_more_than_it_holds_is_refused_at_once(tmp_path, pixels):
    path = save(tmp_path / "a.jpg", pixels[:8, :8])
    content = bytearray(path.read_bytes())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">2H", 20_000, 20_000)
    path.write_bytes(content)
    with pytest.raises(FileRefusedError, match="bytes cannot hold the 20000x20000 px that it claims"):
        read_image(path)


@pytest.mark.parametrize(("bits", "share"), [(1, 1), (2, 2), (4, 5), (8, 77)])
def test_a_transparent_level_of_grey_in_any_depth(tmp_path, bits, share):
    levels = 2**bits
    samples = np.arange(levels)[None].repeat(8, axis=0).repeat(2, axis=1)
    packed = b"".join(b"\0" + pack(line, bits) for line in samples)
    head = make_chunk(b"IHDR", struct.pack(">2I5B", samples.shape[1], 8, bits, 0, 0, 0, 0))
    key = make_chunk(b"tRNS", struct.pack(">H", share % levels))
    body = head + key + make_chunk(b"IDAT", zlib.compress(packed)) + make_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    image = read_image(tmp_path / "a.png").image
    assert image.shape[1] == 4
    assert np.array_equal(image[0, 3].numpy(), samples != share % levels)
    assert np.allclose(image[0, 0].numpy(), samples / (levels - 1), atol=1e-6)


def pack(line, bits):
    text = "".join(f"{value:0{bits}b}" for value in line)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def test_the_largest_page_that_is_no_reduced_copy(tmp_path, pixels):
    small = Image.fromarray(pixels).resize((40, 30))
    buffer = io.BytesIO()
    small.save(buffer, "TIFF", tiffinfo={254: 1}, save_all=True, append_images=[Image.fromarray(pixels)])
    content = buffer.getvalue()
    (tmp_path / "a.tif").write_bytes(content)
    assert is_same(tmp_path / "a.tif", pixels)
    assert read_image(tmp_path / "a.tif").notes == ("2 pages: using the largest, number 2",)


@pytest.mark.parametrize(("start", "name", "ending"), [(b"8BPS", "Photoshop", "psd"), (b"\0\0\0\x0cjP  ", "JPEG 2000", "jp2")])
def test_pictures_that_are_not_read_are_named_and_not_passed_over(tmp_path, start, name, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(start + bytes(100))
    (tmp_path / "notes.txt").write_text("x")
    assert find_images(tmp_path).files == [path]
    with pytest.raises(FileRefusedError, match=rf"is .*{name}.*, which is not read; wanted PNG"):
        read_image(path)


@pytest.mark.parametrize(("start", "package"), [(b"\0\0\0\x18ftypheic", "pillow-heif"), (b"\xff\x0a", "pillow-jxl-plugin")])
def test_a_missing_reader_is_told_with_the_command_that_installs_it(tmp_path, start, package, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    (tmp_path / "a").write_bytes(start + bytes(100))
    with pytest.raises(FileRefusedError, match=rf"which {package} reads; pip install {package}$"):
        read_image(tmp_path / "a")


def test_heic_is_read_upright_with_its_colors(tmp_path, pixels):
    heif = pytest.importorskip("pillow_heif")
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    heif.from_pillow(turned).save(tmp_path / "a.heic", quality=95, chroma=444, exif=exif.tobytes())
    read = read_image(tmp_path / "a.heic")
    made = read.image[0].permute(1, 2, 0).numpy() * 255
    assert made.shape == pixels.shape
    assert abs(made - pixels).mean() < 2
    (tmp_path / "b.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:2000])
    with pytest.raises(FileRefusedError, match="damaged or truncated"):
        read_image(tmp_path / "b.heic")


def test_jpeg_xl_is_read(tmp_path, pixels):
    pytest.importorskip("pillow_jxl")
    Image.fromarray(pixels).save(tmp_path / "a.jxl", lossless=True)
    assert is_same(tmp_path / "a.jxl", pixels)
    (tmp_path / "b.jxl").write_bytes((tmp_path / "a.jxl").read_bytes()[:200])
    with pytest.raises(FileRefusedError, match="damaged or truncated"):
        read_image(tmp_path / "b.jxl")


def test_a_jfif_in_a_folder_is_read(tmp_path, pixels):
    path = save(tmp_path / "a.jfif", pixels, format="JPEG")
    assert find_images(tmp_path).files == [path]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_no_tag_of_a_result_points_into_nothing(tmp_path, pixels, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.ColorSpace: 1, 0xA005: {1: "R98", 2: b"0100"}}
    save(tmp_path / "a.jpg", pixels, exif=exif)
    upscale_file(tmp_path / "a.jpg", tmp_path / f"o{suffix}", Session(Settings(Target(scale=2), "photo"), models={}))
    with warnings.catch_warnings(), Image.open(tmp_path / f"o{suffix}") as made:
        warnings.simplefilter("error")
        found = made.getexif()
        assert found[ExifTags.Base.Make] == "Camera"
        assert 0xA005 not in found.get_ifd(ExifTags.IFD.Exif)
        assert found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ColorSpace] == 1


PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    b' xmlns:exif="http://ns.adobe.com/exif/1.0/" tiff:Orientation="6" exif:PixelXDimension="112"%b>'
    b"<dc:subject><rdf:Bag><rdf:li>harbor</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)
RECORDS = b"\x1c\x02\x05\0\x05title\x1c\x02\x19\0\x06harbor"


def enlarge(source, output, *, keep_gps=True):
    session = Session(Settings(Target(scale=2), "photo", restore="off"), models={})
    upscale_file(source, output, session, FileOptions(keep_gps=keep_gps))
    with Image.open(output) as made:
        made.load()
        return made


def read_packet(made):
    found = made.info.get("xmp") or made.info.get("XML:com.adobe.xmp") or made.tag_v2[700]
    return ElementTree.fromstring(found.encode() if isinstance(found, str) else found), str(found)


def captioned(tmp_path, pixels, packet):
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(RECORDS)) + RECORDS + bytes(len(RECORDS) % 2)
    segment = b"Photoshop 3.0\0" + block
    extra = b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
    return save(tmp_path / "a.jpg", pixels, xmp=packet, comment=b"a comment", extra=extra)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_keywords_captions_and_comments_are_carried(tmp_path, pixels, suffix):
    source = captioned(tmp_path, pixels, PACKET % b"")
    made = enlarge(source, tmp_path / f"o{suffix}")
    tree, text = read_packet(made)
    assert [node.text for node in tree.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")] == ["harbor"]
    assert 'fidelity:model="natural-x2.safetensors"' in text
    assert 'tiff:Orientation="1"' in text
    assert "PixelXDimension" not in text
    if suffix == ".jpg":
        assert made.info["photoshop"][0x0404] == RECORDS
        assert made.info["comment"] == b"a comment"
    if suffix == ".tif":
        assert made.tag_v2[33723] == RECORDS
    if suffix == ".png":
        assert made.info["Comment"] == "a comment"
    again, text = read_packet(enlarge(tmp_path / f"o{suffix}", tmp_path / f"again{suffix}"))
    assert text.count("fidelity:model=") == 1
    assert len(list(again.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"))) == 1


@pytest.mark.parametrize(("part", "keep_gps"), [(b' exif:GPSLatitude="52,5N"', False), (b' hdrgm:Version="1.0"', True)])
def test_a_packet_with_a_position_to_strip_or_of_a_gain_map_is_left_out(tmp_path, pixels, part, keep_gps):
    source = captioned(tmp_path, pixels, PACKET % part)
    _, text = read_packet(enlarge(source, tmp_path / "o.jpg", keep_gps=keep_gps))
    assert "harbor" not in text
    assert "fidelity:model" in text


@pytest.mark.parametrize("packet", [b"", b"<", b"</rdf:RDF></rdf:RDF>", b"\xff\xfe\0", b"a" * 62_000])
def test_a_packet_that_nothing_can_be_added_to_is_left_out(tmp_path, pixels, packet):
    source = captioned(tmp_path, pixels, packet or None)
    assert "fidelity:model" in read_packet(enlarge(source, tmp_path / "o.jpg"))[1]


@pytest.mark.parametrize("tags", [{254: 1, 330: 8}, {50706: b"\1\4\0\0"}])
def test_a_camera_raw_file_is_not_taken_for_its_preview(tmp_path, pixels, tags):
    Image.fromarray(pixels).resize((40, 30)).save(tmp_path / "a.tif", tiffinfo=tags)
    path = (tmp_path / "a.tif").rename(tmp_path / "a.dng")
    assert find_images(tmp_path).files == [path]
    with pytest.raises(FileRefusedError, match="is a camera's raw file, which is not read"):
        read_image(path)


def test_a_progressive_jpeg_without_its_last_scans_is_refused(tmp_path, pixels):
    path = save(tmp_path / "a.jpg", pixels, quality=90, progressive=True)
    content = path.read_bytes()
    scans = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"]
    assert len(scans) > 3
    for place in scans[1:]:
        path.write_bytes(content[:place])
        with pytest.raises(FileRefusedError, match="damaged or truncated"):
            read_image(path)


def test_warnings_are_put_back_whatever_threads_overlap():
    before, both = list(warnings.filters), threading.Barrier(2)

    def work(first):
        for _ in range(50):
            both.wait(timeout=60)
            with no_warnings():
                time.sleep(0.001 * first)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


def with_packet(picture, packet, **options):
    picture.save(buffer := io.BytesIO(), "JPEG", xmp=packet, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["MPO", "JPEG", "alone"])
def test_a_gain_map_is_told_as_what_it_is(tmp_path, pixels, kind):
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description hdrgm:Version="1.0"/></x:xmpmeta>'
    picture = Image.fromarray(pixels)
    if kind == "MPO":
        picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture.convert("L")], xmp=packet)
    else:
        second = with_packet(picture.convert("L"), b"") if kind == "JPEG" else b""
        (tmp_path / "a.jpg").write_bytes(with_packet(picture, packet) + second)
    told = read_image(tmp_path / "a.jpg").notes
    left_out = ("its gain map for high dynamic range was left out: this is its standard picture",)
    assert told == (() if kind == "alone" else left_out)


def test_other_second_pictures_are_counted(tmp_path, pixels):
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[picture, picture])
    assert read_image(tmp_path / "a.jpg").notes == ("2 more in the file, such as a depth map or preview, left out",)


@pytest.mark.parametrize("mark", [b"urn:com:apple:photo:2020:aux:hdrgainmap\0", b"infe\2\0\0\0\0\7\0\0tmap\0"])
def test_a_gain_map_of_a_heic_is_found_among_its_items(tmp_path, pixels, mark):
    pytest.importorskip("pillow_heif")
    Image.fromarray(pixels).save(tmp_path / "a.heic", "HEIF")
    content = (tmp_path / "a.heic").read_bytes()
    assert read_image(tmp_path / "a.heic").notes == ()
    (tmp_path / "a.heic").write_bytes(content + b"\0\0\0\x40free" + mark.ljust(56, b"\0"))
    assert "gain map" in read_image(tmp_path / "a.heic").notes[0]
