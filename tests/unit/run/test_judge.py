"""A judge behind a real server on this machine: yes, no, too many requests, garbage, and not there."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from editsweep.core import schema
from editsweep.core.types import Answer, Probe, Scored
from editsweep.errors import ConfigError, WorkerError
from editsweep.metrics.answers import Asked
from editsweep.run import chat
from editsweep.run.judge import PROMPT, Judge, JudgeSpec, judge_of
from editsweep.run.publish import report
from editsweep.run.rescore import rescore
from editsweep.store.store import SweepStore

KEY = "sk-very-secret"


class Server(ThreadingHTTPServer):
    """Answers `/v1/chat/completions` with what `reply` makes of the message: (status, body)."""

    daemon_threads = True

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.asked: list[dict] = []
        self.keys: set[str | None] = set()
        self.at_once = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.at_once += 1
            self.server.most = max(self.server.most, self.server.at_once)
            self.server.asked.append(body)
            self.server.keys.add(self.headers.get("Authorization"))
        if self.path != "/v1/chat/completions":
            status, text = 404, "no such path"
        else:
            status, text = self.server.reply(body["messages"][0]["content"])
        with self.server.lock:
            self.server.at_once -= 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.send_header("Retry-After", "0.5")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


def says(text):
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@contextmanager
def serving(reply):
    with Server(reply) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """How long was waited between attempts, without waiting."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = []
    monkeypatch.setattr(chat.Chat.__init__, "__defaults__", ("", found.append))
    return found


def asked(said, axis="reliability", spoke=True, after=True, answers=("Norway",)):
    probe = Probe.of(axis, f"Oslo is in ({said})", answers)
    lines = (Scored("answer", "Norway", (1,), (-1.0,), (1,)),)
    answer = Answer(probe.probe_id, lines, said, spoke)
    return Asked(
        "e", probe, Answer(probe.probe_id, lines, "before", spoke), answer if after else None
    )


def judged(server_or_url, folder, cases, **options):
    url = getattr(server_or_url, "url", server_or_url)
    found = list(Judge(JudgeSpec(url, "m", **options), folder).measure(cases))
    return {(n.phase, n.value, n.status) for _, n in found}, found


def test_it_is_asked_about_what_was_spoken_where_something_should_be_learnt(tmp_path):
    with serving(lambda text: says("Yes." if "wrote: Norway" in text else "no")) as server:
        cases = [
            asked("Norway, of course"),
            asked("Norway", "locality"),
            asked("Norway", spoke=False),
            asked("Norway", "fluency", answers=()),
        ]
        numbers, found = judged(server, tmp_path, cases, key=KEY)
    assert numbers == {("pre", 0.0, "ok"), ("post", 1.0, "ok")}
    assert len(found) == len(server.asked) == 2
    assert {(n.metric, n.protocol, n.axis) for _, n in found} == {("judge", "judge", "reliability")}
    body = server.asked[0]
    assert (body["model"], body["temperature"]) == ("m", 0)
    assert server.keys == {f"Bearer {KEY}"}
    assert KEY not in (tmp_path / "judged.jsonl").read_text()
    assert KEY not in repr(JudgeSpec(server.url, "m", key=KEY))


def test_a_failed_edit_is_a_row_with_a_reason(tmp_path):
    with serving(lambda _: says("no")) as server:
        numbers, _ = judged(server, tmp_path, [asked("x", after=False)])
    assert numbers == {("pre", 0.0, "ok"), ("post", None, "edit_failed")}


def test_what_does_not_count_is_a_row_and_not_asked(tmp_path):
    judge = Judge(JudgeSpec("http://127.0.0.1:9/v1", "m"), tmp_path)
    found = list(judge.not_asked([asked("x"), asked("x", "locality")], "condition unmet"))
    assert {(n.phase, n.value, n.status) for _, n in found} == {
        ("pre", None, "condition unmet"),
        ("post", None, "condition unmet"),
    }


def test_replies_are_kept_and_the_same_is_asked_once(tmp_path):
    cases = [asked(f"text {i % 3}") for i in range(12)]
    with serving(lambda text: says("yes")) as server:
        first, _ = judged(server, tmp_path, cases)
        before = len(server.asked)
        with (tmp_path / "judged.jsonl").open("a") as file:
            file.write('{"key": "cut')
        assert judged(server, tmp_path, cases)[0] == first
        assert before == len(server.asked) == 6
        judged(server, tmp_path, cases[:1], prompt=PROMPT + " Really.")
        assert len(server.asked) == 8


def test_too_many_requests_are_waited_out(tmp_path, waits):
    turns = iter([(429, ""), (503, ""), says("yes")])
    with serving(lambda _: next(turns, says("yes"))) as server:
        numbers, _ = judged(server, tmp_path, [asked("x", after=False)])
    assert ("pre", 1.0, "ok") in numbers
    assert waits == [1.0, 2.0]
    with serving(lambda _: (429, "")) as server:
        numbers, _ = judged(server, tmp_path / "..", [asked("y", after=False)])
    assert ("pre", None, "judge_http_429") in numbers
    assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ((200, "<html>"), "judge_garbled"),
        ((200, '{"choices": []}'), "judge_garbled"),
        (says(None), "judge_garbled"),
        (says("Yes and no"), "unclear"),
        (says(""), "unclear"),
        ((400, "too long"), "judge_http_400"),
        ((302, ""), "judge_http_302"),
    ],
)
def test_what_is_no_verdict_is_null_with_a_reason(tmp_path, reply, status):
    with serving(lambda _: reply) as server:
        numbers, _ = judged(server, tmp_path, [asked("x")])
    assert numbers == {("pre", None, status), ("post", None, status)}
    assert len(server.asked) == 2


def test_a_server_that_is_down_ends_it_and_what_was_judged_is_kept(tmp_path):
    with serving(lambda _: says("yes")) as server:
        url = server.url
        judged(url, tmp_path, [asked("x")])
    numbers, _ = judged(url, tmp_path, [asked("x"), asked("y", after=False)])
    new = {("pre", None, "judge_unreachable"), ("post", None, "edit_failed")}
    assert numbers == {("pre", 1.0, "ok"), ("post", 1.0, "ok")} | new
    numbers, _ = judged(url, tmp_path, [asked(str(i)) for i in range(3)])
    assert ("post", None, "judge_unreachable") in numbers
    with pytest.raises(WorkerError, match="does not answer \\(unreachable\\)"):
        judged(url, tmp_path, [asked(str(i)) for i in range(20)])
    assert len((tmp_path / "judged.jsonl").read_text().splitlines()) == 2


def test_a_key_that_is_refused_ends_it_at_once(tmp_path):
    with serving(lambda _: (401, f"bad key {KEY}")) as server:
        with pytest.raises(ConfigError, match="EDITSWEEP_JUDGE_KEY") as told:
            judged(server, tmp_path, [asked("x")], key=KEY)
        assert KEY not in str(told.value)
        with pytest.raises(ConfigError, match="HTTP 404"):
            judged(server.url + "/x", tmp_path, [asked("x")])


def test_no_more_than_some_at_once(tmp_path):
    gate = threading.Barrier(8, timeout=20)

    def reply(_):
        gate.wait()
        return says("yes")

    with serving(reply) as server:
        judged(server, tmp_path, [asked(str(i), after=False) for i in range(14)] + [asked("x")])
    assert server.most == 8


def test_what_was_said_cannot_fill_another_place(tmp_path):
    with serving(lambda _: says("no")) as server:
        judged(server, tmp_path, [asked("{answers} {question}", after=True)])
    texts = [body["messages"][0]["content"] for body in server.asked]
    assert any("wrote: {answers} {question}" in text for text in texts)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"url": "localhost:8000"}, "http://localhost:8000/v1"),
        ({"url": f"http://me:{KEY}@host/v1"}, "EDITSWEEP_JUDGE_KEY"),
        ({"url": f"http://host/v1?key={KEY}"}, "EDITSWEEP_JUDGE_KEY"),
        ({"model": ""}, "--judge-model"),
        ({"prompt": "Is {said} right?"}, "{question}, {answers}"),
    ],
)
def test_a_judge_that_cannot_be_is_refused(change, told):
    with pytest.raises(ConfigError) as error:
        JudgeSpec(**{"url": "http://host/v1", "model": "m"} | change)
    assert told in str(error.value)
    assert KEY not in str(error.value)


def spoken_run(synthetic):
    """A run whose answers were spoken freely."""
    sweep = synthetic(edits=2, unit_size=1)
    spoken = {
        unit: schema.from_ipc(sweep.parts(unit)["answers"]).to_pylist() for unit in sweep.units
    }
    real = sweep.parts

    def parts(unit):
        rows = [row | {"pre_spoke": True, "post_spoke": True} for row in spoken[unit]]
        return real(unit) | {"answers": schema.to_ipc(schema.table(schema.ANSWERS, rows))}

    sweep.parts = parts
    sweep.commit()
    return sweep


def test_what_came_to_nothing_is_asked_again_by_the_same_command(synthetic):
    sweep = spoken_run(synthetic)
    busy = True
    with serving(lambda text: (503, "") if busy and "Lyon" in text else says("yes")) as server:
        spec = JudgeSpec(server.url, "m")
        first = rescore(sweep.folder, judge=judge_of(spec))
        rows = SweepStore(first.folder).table("measurements").to_pylist()
        assert {r["status"] for r in rows if r["metric"] == "judge"} == {"ok", "judge_http_503"}
        before, busy = len(server.asked), False
        again = rescore(sweep.folder, judge=judge_of(spec))
        assert 0 < again.units_now < first.units_now
        assert all("Lyon" in body["messages"][0]["content"] for body in server.asked[before:])
        assert rescore(sweep.folder, judge=judge_of(spec)).units_now == 0
    rows = SweepStore(first.folder).table("measurements").to_pylist()
    assert {r["status"] for r in rows if r["metric"] == "judge"} == {"ok"}


def test_an_old_run_is_judged(synthetic, tmp_path):
    sweep = spoken_run(synthetic)
    with serving(lambda text: says("no")) as server:
        spec = JudgeSpec(server.url, "big", key=KEY)
        done = rescore(sweep.folder, tmp_path / "new", judge_of(spec))
        asked_so_far = len(server.asked)
        again = rescore(done.folder, tmp_path / "again", judge_of(JudgeSpec(server.url, "other")))
        assert len(server.asked) > asked_so_far > 0
    for folder, model in ((done.folder, "big"), (again.folder, "other")):
        rows = SweepStore(folder).table("measurements").to_pylist()
        values = [(r["value"], r["status"]) for r in rows if r["metric"] == "judge"]
        # Four editors, two edits, before and after; locality is not judged.
        assert len(values) == 4 * 2 * 2 * 6
        assert set(values) == {(0.0, "ok")}
        plan = json.loads((folder / "plan.json").read_text())
        assert (plan["judge"]["model"], plan["judge"]["url"]) == (model, server.url)
        assert plan["judge"]["prompt"] == PROMPT
    page = report(folder)[1].read_text(encoding="utf-8")
    assert f"other, prompt {plan['judge']['prompt_hash']}" in page
    for folder in (done.folder, again.folder):
        for path in folder.rglob("*"):
            assert path.is_dir() or KEY.encode() not in path.read_bytes()
