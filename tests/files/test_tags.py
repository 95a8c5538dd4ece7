"""EXIF is made true of the enlargement; what was done is told in XMP."""

from xml.etree import ElementTree

from PIL import ExifTags, Image

from fidelity.files.tags import SOFTWARE, XMP_NAMESPACE, collect_exif, collect_graphs, correct_exif, describe_in_xmp


def camera():
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model], exif[ExifTags.Base.Orientation] = "Maker", "One", 8
    exif[ExifTags.Base.ImageWidth] = 77
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExifImageWidth: 4,
        ExifTags.Base.ExifImageHeight: 3,
        ExifTags.Base.ISOSpeedRatings: 200,
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (1.0, 2.0, 3.0)}
    return exif


def opened(tmp_path, exif):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg", exif=exif)
    return Image.open(tmp_path / "a.jpg")


def reread(data):
    exif = Image.Exif()
    exif.load(data)
    return exif


def test_what_speaks_of_the_picture_is_kept_and_what_speaks_of_the_file_is_not(tmp_path):
    kept = reread(collect_exif(opened(tmp_path, camera())))
    assert kept[ExifTags.Base.Make] == "Maker"
    assert ExifTags.Base.ImageWidth not in kept
    assert kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 200


def test_orientation_size_and_program_become_those_of_the_result():
    exif = reread(correct_exif(camera().tobytes(), (30, 40)))
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert exif[ExifTags.Base.Orientation] == 1
    assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (40, 30)
    assert exif[ExifTags.Base.Software] == SOFTWARE


def test_places_are_kept_or_left_out_by_choice():
    assert reread(correct_exif(camera().tobytes(), (3, 4))).get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    without = correct_exif(camera().tobytes(), (3, 4), keep_gps=False)
    assert not reread(without).get_ifd(ExifTags.IFD.GPSInfo)
    assert b"N\0" not in without


def test_graphs_go_where_a_camera_left_room_and_are_found_again(tmp_path):
    graphs = {"prompt": '{"1": {}}', "workflow": "{}"}
    for source in (None, camera().tobytes()):
        written = opened(tmp_path, reread(correct_exif(source, (3, 4), graphs=graphs)))
        assert collect_graphs(written) == graphs
        assert not any(str(value).startswith("prompt:") for value in reread(collect_exif(written) or b"").values())
    assert reread(correct_exif(None, (3, 4), graphs=graphs))[ExifTags.Base.Model].startswith("prompt:")


def test_text_that_is_not_ascii_is_kept_to_the_byte(tmp_path):
    exif = camera()
    exif[ExifTags.Base.Copyright] = "© 2024 José".encode()
    written = reread(correct_exif(collect_exif(opened(tmp_path, exif)), (3, 4)))
    assert written[ExifTags.Base.Copyright].encode("latin-1").decode() == "© 2024 José"
    graphs = {"workflow": '{"t": "日本"}'}
    assert collect_graphs(opened(tmp_path, correct_exif(None, (3, 4), graphs=graphs))) == graphs


def test_a_file_that_says_nothing_gets_no_empty_directories():
    assert set(reread(correct_exif(None, (3, 4)))) == {ExifTags.Base.Software}


def test_no_exif_is_none(tmp_path):
    assert collect_exif(opened(tmp_path, Image.Exif())) is None


def test_what_was_done_is_well_formed_whatever_the_names_hold():
    packet = describe_in_xmp({"model": 'a "quoted" <name> & more', "driftMean": 0.123456})
    description = next(
        ElementTree.fromstring(packet.split(b"?>\n", 1)[1]).iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    )
    assert description.attrib[f"{{{XMP_NAMESPACE}}}model"] == 'a "quoted" <name> & more'
    assert description.attrib[f"{{{XMP_NAMESPACE}}}driftMean"] == "0.1235"
