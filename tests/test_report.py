from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from embodied_mem.cli import main
from embodied_mem.memory import Memory
from embodied_mem.verbs.record import record_episode
from embodied_mem.viz.report.memory_sections import MOST_QUESTIONS
from embodied_mem.viz.report.page import STYLE

VOID = {"meta", "link", "img", "br"}
EVIL = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    recording = record_episode("EmbodiedMem/Playground-v0", folder, seed=7, steps=120)
    with Memory.open(recording.memory) as memory:
        memory.note(EVIL)
    (folder / "progress.csv").write_text(
        "time/total_timesteps,rollout/ep_rew_mean,train/loss\n100,0.1,3\n200,,2\n300,0.9,1\n"
    )
    (folder / "result.json").write_text(
        json.dumps({"evaluation": {"success": 0.9375, "interval": [0.8, 1.0]}})
    )
    (folder / "config.yaml").write_text(f"env: {EVIL}\n")
    return folder


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    with pytest.raises(SystemExit) as end:
        main(["report", str(run_folder)])
    assert not end.value.code
    return (run_folder / "report.html").read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Checks that tags nest, and collects what the tests look at."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def test_the_page_tells_the_memory_and_the_run(read: Reader, run_folder: Path):
    titles = ("Overview", "Map", "Rooms and objects", "Timeline", "Changes", "Questions and answers")
    text = " ".join(read.text)
    for title in (*titles, "Curves", "Results and timings", "Settings"):
        assert title in text
    with Memory.open(run_folder / "memory.emem", read_only=True) as memory:
        assert memory.digest() in text
        things = memory.scene.objects()
    assert all(f"{thing.name} #{thing.id}" in text for thing in things)
    asked = re.findall(r"Where did I last see the (.+?)\?", text)
    assert len(asked) == min(MOST_QUESTIONS, len({thing.name for thing in things})) > 3
    assert "0.9375" in text and "evaluation.success" in text


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing(read: Reader):
    for tag, attributes in read.tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
        assert tag not in ("script", "iframe", "object") and not any(a.startswith("on") for a in attributes)
    assert "url(" not in STYLE and "@import" not in STYLE


def test_words_from_outside_are_shown_and_never_obeyed(page: str, read: Reader):
    assert EVIL not in page
    assert page.count("&lt;script&gt;") >= 2  # the note and the setting
    assert EVIL in " ".join(read.text)


def test_a_screen_reader_finds_its_way(read: Reader):
    assert all(attributes.get("alt") for tag, attributes in read.tags if tag == "img")
    html = next(attributes for tag, attributes in read.tags if tag == "html")
    assert html["lang"] == "en"
    tags = [tag for tag, _ in read.tags]
    assert tags.count("h1") == tags.count("main") == 1
    ids = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in read.tags if tag == "a"]
    assert links and {str(link)[1:] for link in links} <= set(ids)
    tables = tags.count("table")
    assert tables and tags.count("caption") == tables
    assert all(attributes.get("scope") == "col" for tag, attributes in read.tags if tag == "th")


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(theme: int):
    found = re.findall(r":root \{(.*?)\}", STYLE, re.S)[theme]
    colors = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", found))
    for ink in ("ink", "quiet", "accent"):
        for ground in ("paper", "band"):
            assert contrast(colors[ink], colors[ground]) >= 4.5  # WCAG 2.2, 1.4.3


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear))


def test_a_browser_shows_it_at_phone_width_without_complaint(page: str, run_folder: Path, tmp_path: Path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    frame = tmp_path / "frame.html"
    source = (run_folder / "report.html").as_uri()
    frame.write_text(f"""<iframe id="f" width="390" height="800" src="{source}"></iframe><script>
f.onload = () => {{ const d = f.contentDocument.documentElement;
document.title = "widths " + d.scrollWidth + " " + d.clientWidth; }};</script>""")
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += ["--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    widths = re.search(r"<title>widths (\d+) (\d+)</title>", shown.stdout)
    assert widths is not None and int(widths[1]) <= int(widths[2])
    assert "CONSOLE" not in shown.stderr


def test_a_memory_alone_and_an_empty_one_have_a_page(run_folder: Path, tmp_path: Path):
    for source in (run_folder / "memory.emem", tmp_path / "empty.emem"):
        if not source.exists():
            Memory().save(source)
        with pytest.raises(SystemExit) as end:
            main(["report", str(source), "--out", str(tmp_path / "page.html")])
        assert not end.value.code
        reader = Reader()
        reader.feed((tmp_path / "page.html").read_text(encoding="utf-8"))
        assert reader.open == []


def test_what_cannot_be_reported_is_said_in_one_line(tmp_path: Path, capsys):
    (tmp_path / "text.emem").write_text("not a memory")
    (tmp_path / "nothing").mkdir()
    for arguments in (
        [tmp_path / "absent"],
        [tmp_path / "nothing"],
        [tmp_path / "text.emem"],
        [tmp_path / "nothing", "--out", tmp_path / "no" / "page.html"],
    ):
        with pytest.raises(SystemExit) as end:
            main(["report", *map(str, arguments)])
        assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1
