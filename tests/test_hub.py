"""The switch of Hugging Face's libraries is left as it was, by threads that overlap too."""

import threading

from huggingface_hub import constants

from chiaroscuro import hub


def test_threads_that_overlap_leave_the_switch_as_it_was(monkeypatch):
    monkeypatch.setattr(hub, "_answers", lambda: False)
    before = constants.HF_HUB_OFFLINE
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first():
        with hub.hub_if_reachable():
            first_in.set()
            second_in.wait(0.2)
        first_out.set()

    def second():
        first_in.wait()
        with hub.hub_if_reachable():
            second_in.set()
            first_out.wait()
            assert constants.HF_HUB_OFFLINE

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == constants.HF_HUB_OFFLINE
