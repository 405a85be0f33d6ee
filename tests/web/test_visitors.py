"""What is kept of whom, and for how long."""

import threading
import time

import pytest

from chiaroscuro.web import visitors as module
from chiaroscuro.web.jobs import BusyError, Job, Lane
from chiaroscuro.web.visitors import Answer, GoneError, Upload, Visitors


def test_the_oldest_photos_of_a_visitor_are_forgotten():
    visitors = Visitors()
    one = visitors.welcome(None)
    keys = [visitors.keep_photo(one, Upload(str(n), b"x")) for n in range(module.MOST_PHOTOS + 2)]
    for key in keys[:2]:
        with pytest.raises(GoneError, match="give it once more"):
            visitors.photo(one, key)
    assert [visitors.photo(one, key).name for key in keys[2:4]] == ["2", "3"]


def test_uploads_together_stay_below_their_limit(monkeypatch):
    """The photos of who was away longest go first; the newest photo always stays."""
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    visitors = Visitors()
    away, here = visitors.welcome(None), visitors.welcome(None)
    old = visitors.keep_photo(away, Upload("old", bytes(6)))
    new = visitors.keep_photo(here, Upload("new", bytes(6)))
    with pytest.raises(GoneError):
        visitors.photo(away, old)
    assert visitors.photo(here, new).name == "new"
    huge = visitors.keep_photo(here, Upload("huge", bytes(20)))
    assert visitors.photo(here, huge).name == "huge"
    assert here.bytes == 20


def test_a_key_is_of_no_use_to_another():
    visitors = Visitors()
    one, other = visitors.welcome(None), visitors.welcome(None)
    key = visitors.keep_answer(one, Answer(None, Upload("x", b""), "model"))
    assert visitors.answer(one, key).model == "model"
    with pytest.raises(GoneError):
        visitors.answer(other, key)


def test_visitors_are_found_by_their_key_alone():
    visitors = Visitors()
    one = visitors.welcome(None)
    assert visitors.welcome(one.key) is one
    assert visitors.find("made up") is None
    assert visitors.welcome("made up") is not one


def test_the_longest_away_makes_room(monkeypatch):
    monkeypatch.setattr(module, "MOST_VISITORS", 2)
    visitors = Visitors()
    first, second = visitors.welcome(None), visitors.welcome(None)
    visitors.find(first.key)
    visitors.welcome(None)
    assert visitors.find(second.key) is None
    assert visitors.find(first.key) is first


def test_no_more_photos_go_than_must(monkeypatch):
    """One of two old photos makes room enough; the newer of them stays."""
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    visitors = Visitors()
    away, here = visitors.welcome(None), visitors.welcome(None)
    oldest, old = (visitors.keep_photo(away, Upload(name, bytes(4))) for name in ("oldest", "old"))
    visitors.keep_photo(here, Upload("new", bytes(6)))
    with pytest.raises(GoneError):
        visitors.photo(away, oldest)
    assert visitors.photo(away, old).name == "old"


def test_who_leaves_takes_no_newer_question_along():
    """The older question of a pane ends after the newer one came: the newer one is answered."""
    entered, release, messages = threading.Event(), threading.Event(), []

    def held(job):
        entered.set()
        release.wait(120)
        job.check()
        return {"state": "done"}

    lane = Lane("test", 5)
    older = Job("one", held, lambda message: None, 60)
    left = Job("two", lambda job: {}, messages.append, 60)
    lane.add(older)
    assert entered.wait(120)
    lane.add(left)
    lane.add(Job("one", lambda job: {"state": "answer"}, messages.append, 60))
    lane.leave(older)
    lane.leave(left)
    release.set()
    while messages[-1:] != [None]:
        time.sleep(0.01)
    lane.close()
    ahead = [("waiting", 1), ("waiting", 1), ("waiting", 2)]
    assert [(m["state"], m["ahead"]) for m in messages[:3]] == ahead
    assert messages[3:] == [{"state": "answer"}, None]


def test_a_question_that_is_refused_stops_no_other():
    """The line is full: the owner's running question goes on."""
    entered, release, messages = threading.Event(), threading.Event(), []

    def work(job):
        entered.set()
        release.wait(120)
        job.check()
        return {"state": "done"}

    lane = Lane("test", 1)
    lane.add(Job("one", work, messages.append, 60))
    assert entered.wait(120)
    lane.add(Job("other", lambda job: {}, lambda message: None, 60))
    with pytest.raises(BusyError, match="1 questions wait"):
        lane.add(Job("one", work, lambda message: None, 60))
    release.set()
    while messages[-1:] != [None]:
        time.sleep(0.01)
    lane.close()
    assert messages[-2] == {"state": "done"}
