import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from editsweep.run.policy import DEATHS_ALONE, LOSSES, NOT_MADE, RAISES, Item, Queue, State


def ids(queue, lane=None):
    """Everything the queue gives out while each task is finished at once."""
    found = []
    while item := queue.take(lane):
        found.append(item.task_id)
        queue.finished(item.task_id)
    return found


def test_what_others_need_comes_first_then_the_largest():
    items = [Item("small", ("base",), 1), Item("large", ("base",), 9), Item("base", stage=0)]
    assert ids(Queue(items)) == ["base", "large", "small"]


def test_a_task_waits_for_all_it_needs():
    queue = Queue([Item("edit", ("a", "b")), Item("a", stage=0), Item("b", stage=0)])
    assert {queue.take().task_id, queue.take().task_id} == {"a", "b"}
    assert queue.take() is None
    queue.finished("a")
    assert queue.take() is None
    queue.finished("b")
    assert queue.take().task_id == "edit"


def test_needs_that_are_done_before_do_not_count():
    assert ids(Queue([Item("edit", ("a",))], frozenset({"a"}))) == ["edit"]
    with pytest.raises(ValueError, match="nothing makes"):
        Queue([Item("edit", ("a",))])
    with pytest.raises(ValueError, match="twice"):
        Queue([Item("a"), Item("a")])


def test_what_more_hangs_on_goes_before_what_waits():
    chain = [Item("c1", cost=3), Item("c2", ("c1",), 2), Item("c3", ("c2",), 1)]
    assert ids(Queue([*chain, Item("a"), Item("b")])) == ["c1", "c2", "a", "b", "c3"]


def test_a_long_chain_dies_at_once_and_its_reason_stays_short():
    links = [Item("0"), *(Item(str(i), (str(i - 1),)) for i in range(1, 5000))]
    queue = Queue(links)
    for _ in range(RAISES):
        queue.take()
        queue.raised("0", "boom")
    dead = queue.collect_dead()
    assert [task_id for task_id, _ in dead] == [str(i) for i in range(5000)]
    assert {reason for _, reason in dead[1:]} == {f"{NOT_MADE}: boom"}
    assert queue.over


def test_a_worker_keeps_its_model_while_there_is_work_for_it():
    queue = Queue([Item("a1", lane="a", cost=9), Item("b1", lane="b"), Item("a2", lane="a")])
    assert queue.take("b").task_id == "b1"
    assert queue.take("b").task_id == "a1"


def test_a_worker_without_work_for_its_model_joins_where_most_is_left_for_each():
    items = [Item(f"{lane}{i}", lane=lane) for lane, n in (("a", 4), ("b", 3)) for i in range(n)]
    queue = Queue(items)
    assert queue.take(None, {}).lane == "a"
    assert queue.take(None, {"a": 1}).lane == "b"
    assert queue.take(None, {"a": 1, "b": 1}).lane == "a"
    assert queue.take("c", {"a": 2, "b": 1}).lane == "b"


def test_what_waits_for_others_counts_and_a_sequence_counts_once():
    queue = Queue(
        [
            *[Item("base a", stage=0, lane="a", cost=1), Item("a", ("base a",), 5, "a")],
            *[Item("base b", stage=0, lane="b", cost=4)],
            *[Item("c1", (), 3, "c"), Item("c2", ("c1",), 2, "c"), Item("c3", ("c2",), 1, "c")],
        ]
    )
    assert [queue.take(None, {}).task_id for _ in range(3)] == ["base a", "base b", "c1"]


def test_a_straggler_is_given_out_once_more_when_nothing_else_is_left():
    queue = Queue([Item("slow", cost=2), Item("other")])
    assert queue.take().task_id == "slow"
    assert queue.second(["slow"]) is None
    queue.finished(queue.take().task_id)
    assert queue.take() is None
    assert queue.second([]) is None
    assert queue.second(["slow"]).task_id == "slow"
    assert queue.second(["slow"]) is None
    assert queue.attempts("slow") == 2
    assert queue.finished("slow")
    assert queue.over


@pytest.mark.parametrize("report", [Queue.died, Queue.raised])
def test_what_becomes_of_one_copy_decides_nothing(report):
    queue = Queue([Item("slow")])
    queue.take()
    queue.second(["slow"])
    report(queue, "slow", "gone")
    assert queue.states()["slow"] is State.RUNNING
    assert queue.second(["slow"]) is None
    assert not queue.finished("slow")
    assert queue.collect_dead() == []


def test_a_task_whose_copies_all_die_is_a_suspect_and_runs_alone_without_a_copy():
    queue = Queue([Item("slow")])
    queue.take()
    queue.second(["slow"])
    queue.died("slow", "gone")
    queue.died("slow", "gone")
    assert queue.states()["slow"] is State.SUSPECT
    assert queue.take().task_id == "slow"
    assert queue.second(["slow"]) is None


def test_what_others_need_gets_no_copy():
    queue = Queue([Item("base", stage=0), Item("edit", ("base",))])
    queue.take()
    assert queue.second(["base"]) is None


def test_a_lost_node_blames_nobody_until_it_happens_time_after_time():
    queue = Queue([Item("unlucky", cost=9), Item("other")])
    for _ in range(LOSSES):
        assert queue.take().task_id == "unlucky"
        queue.died("unlucky", "gone", node_lost=True)
    assert queue.take().task_id == "unlucky"
    queue.died("unlucky", "gone", node_lost=True)
    assert queue.states()["unlucky"] is State.SUSPECT
    assert ids(queue) == ["other", "unlucky"]


def test_a_suspect_whose_node_is_lost_stays_one_and_is_not_dead():
    queue = Queue([Item("suspect")])
    queue.take()
    queue.died("suspect", "gone")
    for _ in range(LOSSES):
        queue.take()
        queue.died("suspect", "gone", node_lost=True)
        assert queue.states()["suspect"] is State.SUSPECT
    assert ids(queue) == ["suspect"]


def test_a_victim_runs_alone_and_is_not_blamed():
    queue = Queue([Item("victim", cost=9), Item("other"), Item("third")])
    for task_id in ("victim", "other"):
        assert queue.take().task_id == task_id
    queue.died("victim", "gone")
    assert queue.take().task_id == "third"
    assert queue.take() is None
    queue.finished("other")
    assert queue.take() is None
    queue.finished("third")
    assert queue.take().task_id == "victim"
    queue.finished("victim")
    assert queue.over
    assert queue.collect_dead() == []
    assert queue.attempts("victim") == 2


def test_nothing_runs_beside_a_suspect():
    queue = Queue([Item("a"), Item("b")])
    queue.take()
    queue.take()
    queue.died("a", "gone")
    queue.died("b", "gone")
    assert queue.take().task_id == "a"
    assert queue.take() is None


def test_a_task_that_kills_its_worker_alone_is_dead():
    queue = Queue([Item("poison"), Item("good")])
    good, deaths = 0, 0
    while not queue.over:
        item = queue.take()
        if item.task_id == "poison":
            deaths += 1
            queue.died("poison", "gone")
        else:
            good += 1
            queue.finished(item.task_id)
    assert (good, deaths) == (1, 1 + DEATHS_ALONE)
    assert queue.collect_dead() == [("poison", "gone")]
    assert queue.collect_dead() == []


def test_exceptions_are_counted_apart_from_deaths():
    queue = Queue([Item("a")])
    queue.take()
    queue.died("a", "gone")
    queue.take()
    queue.raised("a", "boom")
    for _ in range(RAISES - 1):
        assert queue.states()["a"] is State.SUSPECT
        queue.take()
        queue.raised("a", "boom again")
    assert queue.collect_dead() == [("a", "boom again")]


def test_what_needs_a_dead_task_is_dead_too():
    queue = Queue([Item("edit", ("base",)), Item("base", stage=0), Item("free")])
    for _ in range(RAISES):
        item = queue.take()
        if item.task_id == "free":
            queue.finished("free")
            item = queue.take()
        queue.raised("base", "boom")
    assert ids(queue) in ([], ["free"])
    assert dict(queue.collect_dead()) == {
        "base": "boom",
        "edit": "what it needs could not be made: boom",
    }
    assert queue.over


def test_a_task_that_raises_is_done_after_the_others_and_then_alone():
    queue = Queue([Item("odd", cost=9), Item("b"), Item("c")])
    assert [queue.take().task_id for _ in range(2)] == ["odd", "b"]
    queue.raised("odd", "boom")
    assert [queue.take().task_id for _ in range(2)] == ["c", "odd"]
    queue.raised("odd", "boom")
    assert queue.take() is None
    queue.finished("b")
    queue.finished("c")
    assert queue.take().task_id == "odd"
    queue.finished("odd")
    assert queue.over
    assert queue.collect_dead() == []


@pytest.mark.parametrize("report", [Queue.finished, lambda q, t: q.died(t, "")])
def test_only_running_tasks_can_end(report):
    queue = Queue([Item("a")])
    with pytest.raises(ValueError, match="not running"):
        report(queue, "a")


class QueueMachine(RuleBasedStateMachine):
    """Any order of give, finish, raise, die and a new driver: nothing is lost or done twice."""

    def __init__(self):
        super().__init__()
        bases = [Item(f"base{i}", stage=0, lane=str(i % 2)) for i in range(3)]
        edits = [
            Item(f"edit{i}", (f"base{i % 3}",), cost=float(i % 4), lane=str(i % 2))
            for i in range(7)
        ]
        self.items = [*bases, *edits]
        self.plan = {item.task_id for item in self.items}
        self.committed: list[str] = []
        self.dead: list[str] = []
        self.alone = ""
        self.queue = Queue(self.items)

    @rule(lane=st.sampled_from([None, "0", "1"]))
    def take(self, lane):
        item = self.queue.take(lane)
        if item:
            assert item.task_id not in self.committed
            assert item.task_id not in self.dead
            assert set(item.needs) <= set(self.committed)

    @precondition(lambda self: self.queue.running)
    @rule(data=st.data())
    def finish(self, data):
        task_id = data.draw(st.sampled_from(self.queue.running))
        self.queue.finished(task_id)
        self.committed.append(task_id)

    @precondition(lambda self: self.queue.running)
    @rule(data=st.data(), kind=st.sampled_from(["died", "raised"]))
    def fail(self, data, kind):
        getattr(self.queue, kind)(data.draw(st.sampled_from(self.queue.running)), kind)
        self.dead += [task_id for task_id, _ in self.queue.collect_dead()]

    @precondition(lambda self: self.queue.running)
    @rule(data=st.data())
    def lose_node(self, data):
        running = data.draw(st.sampled_from(self.queue.running))
        self.queue.died(running, "gone", node_lost=True)
        self.dead += [task_id for task_id, _ in self.queue.collect_dead()]

    @precondition(lambda self: self.queue.running)
    @rule(data=st.data())
    def copy(self, data):
        item = self.queue.second([data.draw(st.sampled_from(self.queue.running))])
        assert item is None or item.task_id in self.queue.running

    @rule()
    def new_driver(self):
        """The driver was killed: only what was committed, or dead-lettered as rows, is known."""
        over = {*self.committed, *self.dead}
        left = [item for item in self.items if item.task_id not in over]
        gone = frozenset(self.committed)
        left = [item for item in left if not set(item.needs) & set(self.dead)]
        self.dead += [
            item.task_id
            for item in self.items
            if set(item.needs) & set(self.dead) and item.task_id not in self.dead
        ]
        self.queue = Queue(left, gone)

    @invariant()
    def each_is_committed_at_most_once(self):
        assert len(self.committed) == len(set(self.committed))
        assert not set(self.committed) & set(self.dead)

    @invariant()
    def nothing_is_lost(self):
        pending = {
            task_id
            for task_id, state in self.queue.states().items()
            if state not in (State.DONE, State.DEAD)
        }
        assert {*self.committed, *self.dead, *pending} == self.plan
        assert not pending & {*self.committed, *self.dead}

    def teardown(self):
        """From wherever it is, the queue can be emptied."""
        for task_id in self.queue.running:
            self.queue.finished(task_id)
        ids(self.queue)
        assert self.queue.over


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
