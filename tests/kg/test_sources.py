"""Every source, and everything that can be wrong with one. The only server is on this machine."""

import bz2
import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import sys
import tarfile
import zipfile

import pyarrow as pa
import pytest

from kglm.errors import InputError
from kglm.files import MARK
from kglm.kg import compression, sources
from kglm.kg.download import download, shown
from kglm.kg.sources import fetch

CONTENT = b"a\tr\tb\n" * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    monkeypatch.delenv("KGLM_MIRROR", raising=False)


def entry(file, **more):
    return {"name": "own", "format": "lines", "files": {"t.tsv": file}} | more


def fetched(tmp_path, spec):
    fetch(spec, tmp_path / "raw")
    assert (tmp_path / "raw" / "t.tsv").read_bytes() == CONTENT
    assert {path.name for path in tmp_path.joinpath("raw").iterdir()} == {"t.tsv", "sources.json", MARK}
    return json.loads((tmp_path / "raw" / "sources.json").read_text())["t.tsv"]


def refused(tmp_path, spec):
    """The one line of the refusal, after which nothing is left."""
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError) as error:
        fetch(spec, tmp_path / "raw")
    assert set(tmp_path.iterdir()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def mirrored(tmp_path, name, content, folder="own"):
    path = tmp_path / "mirror" / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(tmp_path / "mirror")


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("", bytes),
        (".xz", lzma.compress),
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".zst", lambda content: bytes(pa.Codec("zstd").compress(content))),
    ],
)
def test_mirror(tmp_path, suffix, pack, monkeypatch):
    mirror = mirrored(tmp_path, f"t.tsv{suffix}", pack(CONTENT))
    record = fetched(tmp_path, entry({"sha256": SUM}, mirror=mirror))
    assert record == {
        "source": "mirror",
        "location": f"own/t.tsv{suffix}",
        "bytes": len(CONTENT),
        "sha256": SUM,
        "sha256_was_known": True,
    }
    monkeypatch.setenv("KGLM_MIRROR", mirror)
    assert fetched(tmp_path, entry({"sha256": SUM}))["source"] == "mirror"


def test_mirror_folders(tmp_path):
    mirror = mirrored(tmp_path, "t.tsv", CONTENT, "wikitext/wikitext-103")
    for of_entry, of_file in (
        ({"mirror_folder": "wikitext/wikitext-103"}, {}),
        ({}, {"mirror_folder": "wikitext/wikitext-103"}),
    ):
        record = fetched(tmp_path, entry({"sha256": SUM, **of_file}, mirror=mirror, **of_entry))
        assert record["location"] == "wikitext/wikitext-103/t.tsv"


def test_a_local_path_needs_no_sum(tmp_path):
    (tmp_path / "mine.tsv").write_bytes(CONTENT)
    record = fetched(tmp_path, entry(str(tmp_path / "mine.tsv")))
    assert (record["sha256"], record["sha256_was_known"]) == (SUM, False)


def test_a_file_in_a_package_that_is_not_imported(tmp_path, monkeypatch):
    package = tmp_path / "site" / "somepackage"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data").mkdir()
    (package / "data" / "t.tsv").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert fetched(tmp_path, entry({"package": "somepackage/data/t.tsv"}))["source"] == "package"
    assert "somepackage" not in sys.modules
    assert "no such file" in refused(tmp_path, entry({"package": "nopackage/t.tsv"}))


@pytest.mark.parametrize("written", [str, lambda path: {"path": str(path)}])
def test_a_path_that_the_user_wrote_comes_before_the_mirror(tmp_path, written):
    (tmp_path / "mine.tsv").write_bytes(CONTENT)
    mirror = mirrored(tmp_path, "t.tsv", b"the mirror's\n")
    assert fetched(tmp_path, entry(written(tmp_path / "mine.tsv"), mirror=mirror))["source"] == "path"
    (tmp_path / "mine.tsv").unlink()
    with pytest.raises(InputError, match="there is no such file"):
        fetched(tmp_path, entry(written(tmp_path / "mine.tsv"), mirror=mirror))


def test_mirror_comes_first_and_a_wrong_one_is_passed_over_aloud(tmp_path, server, capsys):
    server.content = {"/t.tsv": CONTENT}
    spec = entry({"sha256": SUM, "url": f"{server.address}/t.tsv"})
    assert fetched(tmp_path, spec | {"mirror": mirrored(tmp_path, "t.tsv", CONTENT)})["source"] == "mirror"
    assert not server.requests
    mirrored(tmp_path, "t.tsv", b"other")
    assert fetched(tmp_path, spec | {"mirror": str(tmp_path / "mirror")})["source"] == "url"
    assert f"expected {SUM}; another source served" in capsys.readouterr().err


def test_a_wrong_sum_names_file_and_sums(tmp_path):
    found = hashlib.sha256(b"other").hexdigest()
    message = refused(tmp_path, entry({"sha256": SUM}, mirror=mirrored(tmp_path, "t.tsv", b"other")))
    assert message.startswith("own/t.tsv: ")
    assert f"sha256 {found}, expected {SUM}" in message


def test_several_contents_may_do(tmp_path):
    mirror = mirrored(tmp_path, "t.tsv", CONTENT)
    assert fetched(tmp_path, entry({"sha256": ["0" * 64, SUM]}, mirror=mirror))["sha256"] == SUM


def test_no_source_at_all(tmp_path):
    assert "none is named" in refused(tmp_path, entry({"sha256": SUM}))
    assert "no such file" in refused(tmp_path, entry(str(tmp_path / "absent.tsv")))


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress, bz2.compress])
def test_a_truncated_compressed_file(tmp_path, pack):
    suffix = {lzma.compress: ".xz", gzip.compress: ".gz", bz2.compress: ".bz2"}[pack]
    mirror = mirrored(tmp_path, f"t.tsv{suffix}", pack(os.urandom(9999))[:5000])
    assert "damaged or cut short" in refused(tmp_path, entry({}, mirror=mirror))
    mirrored(tmp_path, f"t.tsv{suffix}", b"not compressed at all")
    refused(tmp_path, entry({"sha256": SUM}, mirror=mirror))


def test_download(tmp_path, server, monkeypatch):
    server.content = {"/data/t.tsv": CONTENT}
    monkeypatch.setenv("OWN_TOKEN", "secret")
    address = f"{server.address}/data/t.tsv?token=${{OWN_TOKEN}}"
    record = fetched(tmp_path, entry({"sha256": SUM, "url": address}))
    assert record["location"] == f"{server.address}/data/t.tsv"
    assert fetched(tmp_path, entry({"sha256": SUM}, base_url=f"{server.address}/data/"))["source"] == "url"


def test_a_broken_download_is_taken_up_where_it_broke(tmp_path, server):
    server.content, server.cut = {"/t.tsv": CONTENT}, 2500
    fetched(tmp_path, entry({"sha256": SUM, "url": f"{server.address}/t.tsv"}))
    assert [wanted for _, wanted in server.requests] == [None, "bytes=2500-", "bytes=5000-"]


def test_a_server_without_ranges_is_asked_again(tmp_path, server):
    server.content, server.ranges = {"/t.tsv": CONTENT}, False
    answer, tries = server.answer, []

    def first_cut(handler):
        tries.append(1)
        server.cut = 100 if len(tries) == 1 else None
        answer(handler)

    server.answer = first_cut
    fetched(tmp_path, entry({"sha256": SUM, "url": f"{server.address}/t.tsv"}))
    assert len(tries) == 2


def test_a_truncated_download_is_refused_even_without_a_sum(tmp_path, server):
    server.content, server.cut = {"/t.tsv": CONTENT}, 10
    message = refused(tmp_path, entry({"url": f"{server.address}/t.tsv"}))
    assert "cut short, 5950 bytes are missing" in message
    assert len(server.requests) == 5


def test_addresses_are_tried_in_order(tmp_path, server, monkeypatch):
    server.content = {"/b/t.tsv": CONTENT}
    spec = entry({"sha256": SUM, "url": [f"{server.address}/a/t.tsv", f"{server.address}/b/t.tsv"]})
    fetched(tmp_path, spec)
    assert len(server.requests) == 2  # a 404 is not asked for twice
    monkeypatch.setenv("OWN_TOKEN", "secret")
    message = refused(tmp_path, entry({"url": f"{server.address}/a/t.tsv?token=${{OWN_TOKEN}}"}))
    assert "404" in message
    assert "secret" not in message


def test_only_https_and_no_way_down_to_http(tmp_path, server):
    for address in ("http://example.org/t.tsv", "file:///etc/passwd", "ftp://example.org/t"):
        with pytest.raises(InputError, match="is no https address"):
            download(address, tmp_path / "t")
    server.moved = {"/t.tsv": "http://example.org/t.tsv?token=secret"}
    with pytest.raises(InputError, match="is no https address") as error:
        download(f"{server.address}/t.tsv", tmp_path / "t")
    assert "secret" not in str(error.value)
    server.moved, server.content = {"/t.tsv": f"{server.address}/u.tsv"}, {"/u.tsv": CONTENT}
    download(f"{server.address}/t.tsv", tmp_path / "t")
    assert (tmp_path / "t").read_bytes() == CONTENT


def test_nobody_listens(tmp_path, server):
    server.close()
    assert "download failed" in refused(tmp_path, entry({"url": f"{server.address}/t.tsv"}))


def test_what_is_shown_of_an_address():
    assert shown("https://user:pass@x.org:8/a/b?token=1#c") == "https://x.org:8/a/b"
    assert shown("mirror/file.tsv") == "mirror/file.tsv"


def tar(members, mode="w:gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return stream.getvalue()


def test_an_archive_is_fetched_once_for_all_its_members(tmp_path, server):
    content = tar({"x/one.tsv": CONTENT, "./x/two.tsv": b"two", "x/other": b"not asked for"})
    server.content = {"/a.tar.gz": content}
    url = {"url": f"{server.address}/a.tar.gz", "sha256": hashlib.sha256(content).hexdigest()}
    files = {name: {"url": [url | {"member": f"x/{name}"}]} for name in ("one.tsv", "two.tsv")}
    fetch(entry({}) | {"files": files}, tmp_path / "raw")
    assert (tmp_path / "raw" / "one.tsv").read_bytes() == CONTENT
    assert (tmp_path / "raw" / "two.tsv").read_bytes() == b"two"
    assert len(server.requests) == 1
    assert not (tmp_path / "raw" / "other").exists()


def test_an_archive_with_a_wrong_sum_is_not_opened(tmp_path, server):
    server.content = {"/a.tar.gz": tar({"t.tsv": CONTENT})}
    url = [{"url": f"{server.address}/a.tar.gz", "member": "t.tsv", "sha256": SUM}]
    assert f"the archive has sha256 {hashlib.sha256(server.content['/a.tar.gz']).hexdigest()}" in refused(
        tmp_path, entry({"url": url})
    )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../t.tsv": CONTENT, "t.tsv": CONTENT}, "'../t.tsv' climbs out"),
        ({"/etc/t.tsv": CONTENT, "t.tsv": CONTENT}, "'/etc/t.tsv' climbs out"),
        ({"a/../../t.tsv": CONTENT, "t.tsv": CONTENT}, "climbs out"),
        ({"t.tsv": (tarfile.SYMTYPE, "/etc/passwd")}, "climbs out"),
        ({"a/t": (tarfile.SYMTYPE, "../../x"), "t.tsv": CONTENT}, "climbs out"),
        ({"t.tsv": (tarfile.LNKTYPE, "../x")}, "climbs out"),
        ({"u": CONTENT, "t.tsv": (tarfile.SYMTYPE, "u")}, "is no plain file"),
        ({"t.tsv": (tarfile.FIFOTYPE, "")}, "is no plain file"),
        ({"u.tsv": CONTENT}, "has no member t.tsv"),
    ],
)
def test_members_that_climb_or_are_no_files(tmp_path, members, message):
    (tmp_path / "a.tar.gz").write_bytes(tar(members))
    assert message in refused(tmp_path, entry({"path": str(tmp_path / "a.tar.gz"), "member": "t.tsv"}))


def test_a_member_that_the_entry_names_badly(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(tar({"t.tsv": CONTENT}))
    spec = entry({"path": str(tmp_path / "a.tar.gz"), "member": "../t.tsv"})
    assert "climbs out" in refused(tmp_path, spec)


def test_a_truncated_archive(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(tar({"t.tsv": os.urandom(9999)})[:5000])
    spec = entry({"path": str(tmp_path / "a.tar.gz"), "member": "t.tsv"})
    assert "damaged or cut short" in refused(tmp_path, spec)


def test_zip(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/t.tsv", CONTENT)
    fetched(tmp_path, entry({"path": str(path), "member": "x/t.tsv", "sha256": SUM}))
    assert "has no member y" in refused(tmp_path, entry({"path": str(path), "member": "y"}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../evil", b"")
    assert "'../evil' climbs out" in refused(tmp_path, entry({"path": str(path), "member": "x/t.tsv"}))
    path.write_bytes(b"no archive")
    assert "damaged or cut short" in refused(tmp_path, entry({"path": str(path), "member": "x/t.tsv"}))


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    mirror = mirrored(tmp_path, "t.tsv", CONTENT)
    monkeypatch.setattr("kglm.kg.sources.copy_within", full)
    assert "the disk is full" in refused(tmp_path, entry({"sha256": SUM}, mirror=mirror))


def test_a_disk_that_fills_up_while_downloading(server):
    """On a file system that is really full, where there is one."""
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full")
    server.content = {"/t.tsv": CONTENT}
    with pytest.raises(OSError, match="No space left"):
        download(f"{server.address}/t.tsv", _DevFull("/dev/full"))


class _DevFull(type(__import__("pathlib").Path())):
    def unlink(self, missing_ok=False):
        raise AssertionError("a full disk is no broken connection")


def test_a_failed_fetch_keeps_what_was_there(tmp_path):
    mirror = mirrored(tmp_path, "t.tsv", CONTENT)
    fetched(tmp_path, entry({"sha256": SUM}, mirror=mirror))
    mirrored(tmp_path, "t.tsv", b"other")
    refused(tmp_path, entry({"sha256": SUM}, mirror=mirror))
    assert (tmp_path / "raw" / "t.tsv").read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["../t.tsv", "a/b", ".hidden", "a b", ""])
def test_names_that_are_no_plain_names(tmp_path, name):
    assert "plain name" in refused(tmp_path, entry({}) | {"files": {name: "x"}}) or name == ""


def zipped(path, content, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        archive.writestr("t.tsv", content)
    return path


def test_a_zip_file_that_python_can_not_unpack_is_told_in_one_line(tmp_path):
    """With a password, or by a method that Windows takes for large files."""
    path = zipped(tmp_path / "locked.zip", CONTENT)
    content = bytearray(path.read_bytes())
    for start in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[start] |= 1  # the flag of an encrypted member
    path.write_bytes(content)
    other = zipped(tmp_path / "deflate64.zip", CONTENT)
    content = bytearray(other.read_bytes())
    for start in (content.index(b"PK\x03\x04") + 8, content.index(b"PK\x01\x02") + 10):
        content[start] = 9
    other.write_bytes(content)
    for file in (path, other):
        assert "can not be unpacked" in refused(tmp_path, entry({"path": str(file), "member": "t.tsv"}))


def test_an_archive_that_grows_beyond_all_texts_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(compression, "_UNPACKED", 10_000)
    huge = bytes(3 * 10**6)
    named = {"path": str(zipped(tmp_path / "a.zip", huge, compression=zipfile.ZIP_DEFLATED)), "member": "t.tsv"}
    assert "bytes when it is unpacked; if that is right, tell how many" in refused(tmp_path, entry(named))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("t.tsv")
        info.size = len(huge)
        archive.addfile(info, io.BytesIO(huge))
    assert "when it is unpacked" in refused(tmp_path, entry({"path": str(tmp_path / "a.tar.gz"), "member": "t.tsv"}))
    (tmp_path / "t.xz").write_bytes(lzma.compress(huge))
    assert "when it is unpacked" in refused(tmp_path, entry({"path": str(tmp_path / "t.xz")}))
    (tmp_path / "t.zst").write_bytes(pa.Codec("zstd").compress(huge))
    assert "when it is unpacked" in refused(tmp_path, entry({"path": str(tmp_path / "t.zst")}))
    fetch(entry({"path": str(tmp_path / "t.xz"), "bytes": len(huge)}), tmp_path / "raw")
    assert (tmp_path / "raw/t.tsv").stat().st_size == len(huge)


def test_more_than_the_entry_says_is_refused(tmp_path):
    (tmp_path / "t").write_bytes(CONTENT)
    fetched(tmp_path, entry({"path": str(tmp_path / "t"), "bytes": len(CONTENT)}))
    shutil.rmtree(tmp_path / "raw")
    assert f"has more than {len(CONTENT) - 1:,} bytes" in refused(
        tmp_path, entry({"path": str(tmp_path / "t"), "bytes": len(CONTENT) - 1})
    )


def test_only_plain_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", str(tmp_path / "pipe")):
        assert "is no plain file" in refused(tmp_path, entry({"path": path}))


@pytest.mark.parametrize(
    "address",
    [
        "https://host/t.tsv?token=SECRET",
        "https://host/t.tsv?X-Amz-Signature=SECRET",
        "https://host/t.tsv?id=" + "SECRET" * 6,
        "https://SECRET@host/t.tsv",
        "https://user:SECRET@host/t.tsv",
    ],
)
@pytest.mark.parametrize("form", ["url", "urls", "url with a member", "base_url"])
def test_no_secret_stands_in_an_address(tmp_path, address, form):
    forms = {"url": {"url": address}, "urls": {"url": [address]}}
    forms |= {"url with a member": {"url": [{"url": address, "member": "t.tsv"}]}, "base_url": {}}
    told = refused(tmp_path, entry(forms[form], **({"base_url": address} if form == "base_url" else {})))
    assert "SECRET" not in told and "environment" in told


def test_a_variable_in_an_address_is_read_when_the_file_is_fetched(tmp_path, server, monkeypatch):
    monkeypatch.setenv("TOKEN", "SEC/RET")
    spec = entry({"url": f"{server.address}/t.tsv?token=${{TOKEN}}"})
    server.content, asked, answer = {"/t.tsv": CONTENT}, [], server.answer

    def noted(handler):
        asked.append(handler.path)
        answer(handler)

    server.answer = noted
    record = fetched(tmp_path, spec)
    assert asked == ["/t.tsv?token=SEC%2FRET"]
    assert "SEC" not in json.dumps(record) and "TOKEN" not in json.dumps(record)
    monkeypatch.delenv("TOKEN")
    shutil.rmtree(tmp_path / "raw")
    assert "the environment variable TOKEN, which its address names, is not set" in refused(tmp_path, spec)


BLOB = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()


def test_a_git_blob_will_do_where_the_sum_is_not_known(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")
    assert sources.git_blob(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"  # `git hash-object`
    (tmp_path / "t").write_bytes(CONTENT)
    for sums in ({"git_blob": BLOB}, {"git_blob": ["0" * 40, BLOB]}, {"git_blob": BLOB, "sha256": "0" * 64}):
        assert fetched(tmp_path, entry({"path": str(tmp_path / "t"), **sums}))["sha256_was_known"]
        shutil.rmtree(tmp_path / "raw")
    fetched(tmp_path, entry({"path": str(tmp_path / "t"), "git_blob": "0" * 40, "sha256": SUM}))
    shutil.rmtree(tmp_path / "raw")
    told = refused(tmp_path, entry({"path": str(tmp_path / "t"), "git_blob": "0" * 40}))
    assert f"the content has sha256 {SUM}, expected git blob {'0' * 40}" in told
