"""The server of the live page: what it answers, to whom, and what it refuses."""

import asyncio
import base64
import io
import json
import re
import shlex
import threading
import zipfile

import httpx2 as httpx
import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro import explain, export_maps, load_classifier, what_if
from chiaroscuro.catalog import TextClasses
from chiaroscuro.images import decode_photo
from chiaroscuro.web import app
from chiaroscuro.web.settings import ServerSettings
from tests.web.conftest import CLASSES, FACTORIES, Running, encoded


def upload(client, data, name="photo.png"):
    answer = client.post("/api/photos", params={"name": name}, content=data)
    answer.raise_for_status()
    return answer.json()


def stream(client, path, **question):
    """All messages of a computation."""
    with client.stream("POST", path, json=question) as answer:
        if answer.status_code != 200:
            answer.read()
            return [answer.json()]
        return [json.loads(line) for line in answer.iter_lines()]


def explained(client, photo, model, **more):
    messages = stream(client, "/api/explain", photo=photo, model=model, **more)
    return [m for m in messages if m["state"] == "explained"], messages


def test_the_first_answer_has_few_rivals_and_the_second_all(visitor, model_folders, png):
    kept = upload(visitor, png)
    assert (kept["width"], kept["height"]) == (48, 40)
    (few, whole), messages = explained(visitor, kept["photo"], model_folders[0], target=3)
    assert (few["rivals"], few["compared"], few["whole"]) == ("top:10", 10, False)
    assert (whole["rivals"], whole["compared"], whole["whole"]) == ("all", CLASSES - 1, True)
    assert few["target"]["index"] == whole["target"]["index"] == 3
    last = [m for m in messages if m["state"] == "progress"][-1]
    assert last["done"] == last["total"] == CLASSES


def test_the_answer_is_what_explain_computes(visitor, model_folders, png):
    kept = upload(visitor, png)
    (_, whole), _ = explained(visitor, kept["photo"], model_folders[1], target=5)
    direct = explain(
        load_classifier(model_folders[1]), decode_photo(png, "photo.png"), target=5, maps="active"
    )
    with visitor.stream("GET", "/api/result.zip", params={"answer": whole["answer"]}) as answer:
        archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    (name,) = [n for n in archive.namelist() if n.endswith(".npz")]
    arrays = np.load(io.BytesIO(archive.read(name)))
    (active,) = [arrays[key] for key in arrays.files if re.split(r"\W", key)[-1] == "active"]
    np.testing.assert_array_equal(active, direct.maps["active"])
    assert whole["predictions"][0]["label"] == direct.predictions[0].label


def test_stored_maps_come_at_once_where_all_is_the_same(model_folders, png, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(png)
    classifier = load_classifier(model_folders[0])
    kept = tmp_path / "kept"
    export_maps(classifier, tmp_path / "photos", kept, maps=("active", "signed"), dtype="float16")
    direct = explain(classifier, decode_photo(png, "x"), maps=("active", "signed"))
    best = direct.target.index
    server = Running(ServerSettings(models=model_folders, stored=(kept,)))
    try:
        with server.visitor() as client:
            photo = upload(client, png)["photo"]

            def notes(**asked):
                answers, _ = explained(client, photo, **{"model": model_folders[0], **asked})
                assert answers[-1]["whole"]
                return [one["notes"] for one in answers]

            (quick, whole), _ = explained(client, photo, model_folders[0])
            assert (quick["whole"], whole["whole"]) == (False, True)
            assert quick["stored"] and "stored" not in whole
            assert [one["name"] for one in quick["feed"]["targets"][0]["maps"]] == [
                "active",
                "signed",
            ]
            assert quick["notes"][-1] == f"maps of {kept}, stored in float16"
            assert quick["target"]["index"] == best == whole["target"]["index"]
            for mine, theirs in zip(quick["predictions"], whole["predictions"], strict=True):
                assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-5)
            assert f"maps of {kept}" in str(notes(target=best))
            other = (best + 1) % classifier.num_classes
            for asked in (
                {"target": other},
                {"rivals": "top:3"},
                {"method": "smoothgrad"},
                {"fit": "pad"},
                {"model": model_folders[1]},
            ):
                assert "stored in" not in str(notes(**asked)), asked
            photo = upload(client, encoded(np.zeros((40, 48, 3), np.uint8)))["photo"]
            assert "stored in" not in str(notes())
    finally:
        server.close()


@pytest.mark.parametrize("order", ["active", "signed", "random", "expected-effect"])
def test_a_change_is_what_what_if_computes(visitor, model_folders, png, order):
    kept = upload(visitor, png)
    *_, whole = explained(visitor, kept["photo"], model_folders[0], target=3)[0]
    (changed,) = [
        m
        for m in stream(
            visitor, "/api/change", answer=whole["answer"], map=order, fraction=0.2, fill="white"
        )
        if m["state"] == "changed"
    ]
    direct = what_if(
        load_classifier(model_folders[0]),
        decode_photo(png, "photo.png"),
        order,
        0.2,
        "white",
        target=3,
    )
    picture = Image.open(io.BytesIO(base64.b64decode(changed["edited"].partition(",")[2])))
    shown = np.asarray(picture).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_allclose(shown, direct.edited, atol=0.5 / 255)
    assert changed["pixels"] == int(direct.changed.sum())
    assert changed["actual"] == pytest.approx(direct.actual, rel=1e-4)
    assert changed["predicted"] == pytest.approx(direct.predicted, rel=1e-4)
    assert changed["path"][-1] == pytest.approx(direct.path[-1], rel=1e-4)
    assert np.sign(changed["actual"]) == np.sign(direct.actual)


def test_the_commands_compute_the_same(visitor, model_folders, png, tmp_path):
    (tmp_path / "it's a photo.png").write_bytes(png)
    kept = upload(visitor, png, "it's a photo.png")
    (_, whole), _ = explained(visitor, kept["photo"], model_folders[0], target=2)
    lines = whole["commands"]["python"].replace("it's", f"{tmp_path}/it's")
    names: dict[str, object] = {}
    exec(lines, names)  # a line that the page shows
    direct = explain(load_classifier(model_folders[0]), decode_photo(png, "x"), target=2)
    np.testing.assert_array_equal(names["explanation"].maps["active"], direct.maps["active"])


def test_a_page_of_classes_from_text(png, tmp_path):
    """The commands that it shows name the texts too."""
    from tests.models import clips  # imports transformers

    clips.save(tmp_path / "clip")
    spec, texts = f"clip:{tmp_path}/clip", TextClasses(("a cat", "it's a dog"), ("a {}", "{}"))
    running = Running(ServerSettings(models=(spec, "cifar10-cnn"), texts=texts))
    (tmp_path / "photo.png").write_bytes(png)
    with running.visitor() as client:
        kept = upload(client, png, str(tmp_path / "photo.png"))["photo"]
        (whole,), _ = explained(client, kept, spec, target="it's a dog")
        assert [one["label"] for one in whole["predictions"]] != []
        assert client.get("/api/classes", params={"model": spec}).json() != []
        (changed,) = [
            m
            for m in stream(client, "/api/change", answer=whole["answer"], map="active")
            if m["state"] == "changed"
        ]
        assert explained(client, kept, "cifar10-cnn")[0]
    running.close()
    direct = explain(
        load_classifier(spec, classes=texts.names, templates=texts.templates),
        decode_photo(png, "photo.png"),
        target=1,
    )
    for message in (whole, changed):
        words = shlex.split(message["commands"]["shell"])
        assert [word for word in words if word.startswith(("--classes", "--template"))] == [
            "--classes=a cat", "--classes=it's a dog", "--template=a {}", "--template={}",
        ]  # fmt: skip
    names: dict[str, object] = {}
    lines = whole["commands"]["python"].replace("'photo.png'", f"'{tmp_path}/photo.png'")
    exec(lines, names)
    np.testing.assert_array_equal(names["explanation"].maps["active"], direct.maps["active"])


def test_a_network_that_scores_every_position_is_asked_about_a_region(png, tmp_path):
    """Explanation, change and the lines that repeat them are of that region."""
    (tmp_path / "nets.py").write_text(FACTORIES)
    (tmp_path / "photo.png").write_bytes(png)
    spec, region = f"{tmp_path}/nets.py:dense", "10,5,30,25"
    running, asked = Running(ServerSettings(models=(spec,))), {"map": "active", "fraction": 0.2}
    with running.visitor() as client:
        kept = upload(client, png, "photo.png")["photo"]
        (refused,) = [m for m in explained(client, kept, spec)[1] if m["state"] == "error"]
        assert "a part of the photo whose scores are averaged (region, mask)" in refused["message"]
        got = explained(client, kept, spec, region=region)[0][-1]
        assert got["feed"]["targets"][0]["outline"].startswith("M")
        (changed,) = [
            m
            for m in stream(client, "/api/change", answer=got["answer"], fill="-0.1", **asked)
            if m["state"] == "changed"
        ]
    running.close()
    direct = what_if(load_classifier(spec), tmp_path / "photo.png", fill="-0.1", **asked,
                     region=region, target=got["target"]["index"])  # fmt: skip
    assert changed["pixels"] == int(direct.changed.sum())
    assert changed["actual"] == pytest.approx(direct.actual, rel=1e-4)
    for message, name in ((got, "explanation"), (changed, "result")):
        names: dict[str, object] = {}
        lines = message["commands"]["python"]
        exec(lines.replace("'photo.png'", f"'{tmp_path}/photo.png'"), names)
        assert names[name].region.asked == region
        _, verb, _, *words = shlex.split(message["commands"]["shell"])
        assert verb == {"explanation": "explain", "result": "what-if"}[name]
        assert {f"--model={spec}", f"--region={region}", "--fit=crop"} <= {*words}
    assert names["result"].actual == pytest.approx(direct.actual, rel=1e-6)
    assert {"--map=active", "--fraction=0.2", "--fill=-0.1"} <= {*words}


@pytest.mark.parametrize("factory", ["without", "shared", "digits"])
def test_every_class_that_is_listed_can_be_asked_for(factory, png, tmp_path):
    (tmp_path / "nets.py").write_text(FACTORIES)
    spec = f"{tmp_path}/nets.py:{factory}"
    running, classifier = Running(ServerSettings(models=(spec,))), load_classifier(spec)
    with running.visitor() as client:
        kept = upload(client, png)["photo"]
        listed = explained(client, kept, spec)[0][-1]["predictions"]
        assert len(listed) == 4
        for one in listed:
            got = explained(client, kept, spec, target=one["asked"])[0][-1]
            assert got["target"]["index"] == one["index"]
            words = shlex.split(got["commands"]["shell"])
            (name,) = (w.removeprefix("--target=") for w in words if w.startswith("--target="))
            assert classifier.class_index(name) == one["index"]
    running.close()


def test_a_visitor_sees_nothing_of_another(running, model_folders, png):
    with running.visitor() as one, running.visitor() as other:
        kept = upload(one, png)
        (_, whole), _ = explained(one, kept["photo"], model_folders[0])
        (refused,) = stream(other, "/api/explain", photo=kept["photo"], model=model_folders[0])
        assert "not kept here" in refused["message"]
        (refused,) = stream(other, "/api/change", answer=whole["answer"])
        assert "not kept here" in refused["message"]
        assert other.get("/api/result.zip", params={"answer": whole["answer"]}).status_code == 404


def test_a_browser_without_a_cookie_is_refused(running):
    answer = httpx.get(f"{running.address}/api/choices")
    assert answer.status_code == 401
    assert "reload the page" in answer.json()["message"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"no picture at all", "not a picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "picture"),
    ],
)
def test_a_bad_photo_gets_one_line_and_the_next_is_read(visitor, png, data, words):
    answer = visitor.post("/api/photos", params={"name": "bad.png"}, content=data)
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert "\n" not in answer.json()["message"]
    upload(visitor, png)


def test_a_large_body_is_refused_unread(visitor, monkeypatch):
    monkeypatch.setattr(app, "MOST_UPLOAD", 1000)
    answer = visitor.post("/api/photos", content=bytes(2000))
    assert answer.status_code == 413
    answer = visitor.post("/api/photos", content=iter([bytes(600), bytes(600)]))  # without a length
    assert answer.status_code == 413


def test_a_slow_body_is_refused(running, visitor, monkeypatch):
    monkeypatch.setattr(app, "UPLOAD_SECONDS", 0.3)
    release = threading.Event()

    def slow():
        yield b"\x89PNG"
        release.wait(120)
        yield b"rest"

    threading.Timer(1, release.set).start()
    answer = visitor.post("/api/photos", content=slow())
    assert answer.status_code == 400
    assert "did not arrive" in answer.json()["message"]


@pytest.mark.parametrize(
    "question",
    [
        "no json",
        "[]",
        json.dumps({"photo": 3, "model": "x"}),
        json.dumps({"photo": "x"}),
        "[" * 5000,
        json.dumps({"photo": "\ud800", "model": "x"}),
    ],
)
def test_a_question_of_another_form_is_refused(visitor, question):
    answer = visitor.post("/api/explain", content=question)
    assert answer.status_code in (400, 404)
    assert answer.json()["state"] == "error"


@pytest.mark.parametrize(
    "model", ["/etc/passwd", "evil.py:make", "torchvision:resnet18", "../net-0", ""]
)
def test_only_the_models_of_the_server_are_loaded(visitor, png, model):
    kept = upload(visitor, png)
    found, messages = explained(visitor, kept["photo"], model)
    assert not found
    assert "unknown model" in messages[-1]["message"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": "no such class"}, "no such class"),
        ({"target": 99}, "99"),
        ({"rivals": "top:x"}, "top:x"),
        ({"method": "expected-gradients"}, "expected-gradients"),
        ({"fit": "/etc"}, "fit"),
        ({"region": "/etc"}, "/etc"),
    ],
)
def test_a_wrong_choice_gets_one_line(visitor, model_folders, png, change, words):
    kept = upload(visitor, png)
    found, messages = explained(visitor, kept["photo"], model_folders[0], **change)
    assert not found
    assert messages[-1]["state"] == "error"
    assert words in messages[-1]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:80"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "[::1"},
    ],
)
def test_questions_from_elsewhere_are_refused(visitor, headers):
    answer = visitor.post("/api/samples", json={"name": "cat"}, headers=headers)
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize(
    ("mode", "dest", "status"),
    [("no-cors", "image", 403), ("navigate", "iframe", 403), ("cors", "empty", 403),
     ("navigate", "document", 200)],
)  # fmt: skip
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_from_elsewhere_opens_the_page_and_nothing_else_does(
    running, site, mode, dest, status
):
    """Pictures and frames of another site would make visitors until the oldest are forgotten."""
    headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    assert httpx.get(f"{running.address}/", headers=headers).status_code == status


def test_the_page_names_itself_and_nobody_else(visitor):
    page = visitor.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in page.text.replace("http://www.w3.org", "")
    for path in ("/web/page.js", "/web/page.css", "/viewer/viewer.js", "/viewer/viewer.css"):
        answer = visitor.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert visitor.get("/../app.py").status_code == 404
    assert visitor.get("/web/app.py").status_code == 404


def test_a_token_is_asked_for_where_others_can_reach_the_server(model_folders):
    server = Running(ServerSettings(models=model_folders, token="secret"))
    try:
        with httpx.Client(base_url=server.address, follow_redirects=False) as client:
            assert client.get("/").status_code == 401
            for wrong in ("wrong", "", "secr\u00e9t"):
                assert client.get("/", params={"token": wrong}).status_code == 401
            assert client.get("/api/choices").status_code == 401
            answer = client.get("/", params={"token": "secret"})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            assert client.get("/").status_code == 200
            assert client.get("/api/choices").status_code == 200
    finally:
        server.close()


def test_the_newest_question_of_a_pane_wins(running, model_folders, png, monkeypatch):
    """The older one stops between two steps; other panes go on."""
    entered, release = threading.Event(), threading.Event()
    real = app.answers.explained

    def held(classifier, question, upload, job, rivals):
        if question.target == 1:
            entered.set()
            release.wait(120)
            job.check()
        return real(classifier, question, upload, job, rivals)

    monkeypatch.setattr(app.answers, "explained", held)
    results = {}

    def ask(name, client, **question):
        results[name] = explained(client, kept["photo"], model_folders[0], tab="t", **question)

    with running.visitor() as client:
        kept = upload(client, png)
        older = threading.Thread(target=ask, args=("older", client), kwargs={"target": 1})
        older.start()
        assert entered.wait(120)
        newer = threading.Thread(target=ask, args=("newer", client), kwargs={"target": 2})
        aside = threading.Thread(
            target=ask, args=("aside", client), kwargs={"target": 3, "pane": 1}
        )
        newer.start()
        aside.start()
        while len(running.server.explain_lane._line) < 2:
            newer.join(0.01)
        release.set()
        for thread in (older, newer, aside):
            thread.join(60)
    found, messages = results["older"]
    assert not found
    assert messages[-1] == {"state": "stopped", "message": "a newer question took its place"}
    assert [m["target"]["index"] for m in results["newer"][0]] == [2, 2]
    assert [m["target"]["index"] for m in results["aside"][0]] == [3, 3]


def test_a_browser_that_leaves_stops_its_computation(running, model_folders, png, monkeypatch):
    seen = threading.Event()
    stopped = threading.Event()

    def endless(classifier, question, upload, job, rivals):
        try:
            while True:
                job.progress(1, 2)
                seen.set()
                stopped.wait(0.01)
        finally:
            stopped.set()

    monkeypatch.setattr(app.answers, "explained", endless)
    with running.visitor() as client:
        kept = upload(client, png)
        question = {"photo": kept["photo"], "model": model_folders[0]}
        with client.stream("POST", "/api/explain", json=question) as answer:
            lines = answer.iter_lines()  # it is kept: who drops it leaves
            next(lines)
            assert seen.wait(120)
    assert stopped.wait(120)


def test_a_browser_that_leaves_before_the_answer_begins_stops_it_too(model_folders, png):
    server = app.Server(ServerSettings(models=model_folders))
    visitor = server.visitors.welcome(None)
    photo = server.visitors.keep_photo(visitor, app.Upload("photo.png", png))
    question = json.dumps({"photo": photo, "model": model_folders[0]}).encode()
    came = [{"type": "http.request", "body": question}, {"type": "http.disconnect"}]
    headers = {"host": "localhost", "cookie": f"{server.cookie}={visitor.key}"}
    jobs, real = [], server.explain_lane.add

    async def receive():
        return came.pop(0) if len(came) > 1 else came[0]

    async def send(message):
        await asyncio.sleep(60)

    server.explain_lane.add = lambda job: (jobs.append(job), real(job))
    scope = {
        **{"type": "http", "method": "POST", "path": "/api/explain", "query_string": b""},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(server.app()(scope, receive, send))
    server.explain_lane.close()
    assert [job.reason for job in jobs] == ["the browser left"]


def test_too_many_questions_are_refused_in_one_line(running, model_folders, png, monkeypatch):
    monkeypatch.setattr(running.server.explain_lane, "most", 0)
    with running.visitor() as client:
        kept = upload(client, png)
        (refused,) = stream(client, "/api/explain", photo=kept["photo"], model=model_folders[0])
    assert "try again" in refused["message"]


def test_an_answer_has_a_time_limit(model_folders, png):
    server = Running(ServerSettings(models=model_folders, seconds=0.0))
    try:
        with server.visitor() as client:
            kept = upload(client, png)
            _, messages = explained(client, kept["photo"], model_folders[0])
        assert messages[-1]["state"] == "stopped"
        assert "limit for one answer" in messages[-1]["message"]
    finally:
        server.close()


def test_a_crash_inside_a_computation_is_one_line(visitor, model_folders, png, monkeypatch):
    def broken(*_):
        raise RuntimeError("first line\nsecond line")

    kept = upload(visitor, png)
    with monkeypatch.context() as patch:
        patch.setattr(app.answers, "explained", broken)
        _, messages = explained(visitor, kept["photo"], model_folders[0])
    message = messages[-1]["message"]
    assert message == "the computation failed (RuntimeError: first line)"
    assert len(explained(visitor, kept["photo"], model_folders[0])[0]) == 2


def test_twenty_visitors_at_once_each_get_their_own_answer(running, model_folders):
    """Every visitor has another photo; each answer is what the library computes for it."""
    from tests.web.conftest import encoded

    source = np.random.default_rng(1)
    photos = [encoded(source.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(20)]
    classifier = load_classifier(model_folders[0])
    wanted = [explain(classifier, decode_photo(data, "x")).predictions[0] for data in photos]
    answers = {}

    def visit(n):
        with running.visitor() as client:
            (few, whole), _ = explained(
                client, upload(client, photos[n])["photo"], model_folders[0]
            )
            answers[n] = few["predictions"][0], whole["predictions"][0]

    def ask(n):
        while True:  # the line is shorter than the crowd
            try:
                return visit(n)
            except ValueError:
                continue

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for n, best in enumerate(wanted):
        for got in answers[n]:
            assert got["index"] == best.index
            assert got["logit"] == pytest.approx(best.logit, rel=1e-5)


def test_the_network_is_left_as_it_was(running, model_folders, visitor, png):
    classifier = running.server.models.get(model_folders[0])
    before = {k: v.clone() for k, v in classifier.module.state_dict().items()}
    kept = upload(visitor, png)
    explained(visitor, kept["photo"], model_folders[0])
    after = classifier.module.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
