"""Any sequence of calls, one after the other or many at once, leaves an emulator whose parts agree."""

import random
import threading

import pytest
from emu_state import PARENT, Api, Marked, Refused, build, wait_for
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cpr_kit.emulator.app import Emulator
from cpr_kit.emulator.settings import Settings
from cpr_kit.engine.choose import choose

ALIASES = ("best", "prod", "test")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    engine = choose("process").engine
    build(engine, tmp_path_factory.mktemp("property"))
    with Emulator(engine=engine, settings=Settings(max_replicas=2)) as emulator:
        yield Api(emulator.url)


class World:
    """A location of its own in one emulator, and every call on what is in it; refusals are answers too."""

    made = 0

    def __init__(self, api):
        self.api = api
        World.made += 1
        self.parent = PARENT.replace("test-project", f"world-{World.made}")
        self.marked = Marked("process")
        self.operations = []
        self.seen = set()

    def begin(self, work, *arguments, **options):
        """Whether it was taken on; an operation is kept."""
        try:
            answer = work(*arguments, **options)
        except Refused as refused:
            # 500 would be the emulator's own fault.
            assert refused.status in (400, 404, 409), refused
            return False
        if "/operations/" in answer.get("name", ""):
            self.operations.append(answer)
        return True

    def settle(self):
        """Every operation ends, and not by a fault of the emulator."""
        for operation in self.operations:
            found = self.api.ended(operation)
            assert found.get("error", {}).get("code") not in (2, 13), found
            assert ("error" in found) != ("response" in found)
        self.operations = []

    def all(self, collection):
        return self.api.get(f"{self.parent}/{collection}").get(collection, [])

    def models(self):
        return [each["name"] for each in self.all("models")]

    def versions(self, model):
        return self.api.get(f"{model}:listVersions")["models"]

    def deployed(self, endpoint):
        try:
            found = self.api.get(endpoint)
        except Refused:
            return [], {}
        return found.get("deployedModels", []), found.get("trafficSplit", {})

    # The calls

    def upload(self, parent_model=None, alias=None):
        model = {"versionAliases": [alias]} if alias else {}
        fields = {"parentModel": parent_model} if parent_model else {}
        self.begin(self.api.upload, parent=self.parent, env=self.marked.env, model=model, **fields)

    def merge(self, model, version, alias):
        path = f"{model}@{version}:mergeVersionAliases"
        self.begin(self.api.call, "POST", path, versionAliases=[alias])

    def create(self):
        self.begin(self.api.call, "POST", f"{self.parent}/endpoints", displayName="e")

    def deploy(self, endpoint, model, share, replicas):
        """The others share what is left; no share leaves the split as it is."""
        ids = [each["id"] for each in self.deployed(endpoint)[0]]
        split = {}
        if share is not None:
            split = {"0": share if ids else 100}
            split.update(halves(ids, 100 - split["0"]))
        self.begin(self.api.deploy, endpoint, model, split=split, replicas=replicas)

    def undeploy(self, endpoint, number, *, give):
        ids = [each["id"] for each in self.deployed(endpoint)[0]]
        if ids:
            leaving = ids.pop(number % len(ids))
            self.begin(self.api.undeploy, endpoint, leaving, halves(ids, 100) if give else {})

    def mutate(self, endpoint, number, replicas):
        ids = [each["id"] for each in self.deployed(endpoint)[0]]
        if ids:
            self.begin(self.api.mutate, endpoint, ids[number % len(ids)], replicas)

    def split(self, endpoint, share):
        """Not always one that adds up to 100."""
        ids = [each["id"] for each in self.deployed(endpoint)[0]]
        split = dict.fromkeys(ids, share)
        path = f"{endpoint}?updateMask=trafficSplit"
        self.begin(self.api.call, "PATCH", path, trafficSplit=split)

    def cancel(self, number):
        if self.operations:
            name = self.operations[number % len(self.operations)]["name"]
            self.begin(self.api.call, "POST", f"{name}:cancel")

    def delete(self, name):
        self.begin(self.api.call, "DELETE", name)

    # What holds whenever all operations have ended

    def check(self):
        self.settle()
        wanted, places = 0, set()
        for endpoint in self.all("endpoints"):
            models, split = endpoint.get("deployedModels", []), endpoint.get("trafficSplit", {})
            ids = [each["id"] for each in models]
            assert len(set(ids)) == len(ids)
            assert set(split) <= set(ids), endpoint
            assert sum(split.values()) == (100 if split else 0), endpoint
            wanted += sum(min(each["dedicatedResources"]["minReplicaCount"], 2) for each in models)
            places |= {(each["model"], each["modelVersionId"], endpoint["name"], each["id"]) for each in models}
        self.check_aliases()
        seen = set()
        for model in self.models():
            for version in self.versions(model):
                at = version.get("deployedModels", [])
                seen |= {(model, version["versionId"], each["endpoint"], each["deployedModelId"]) for each in at}
        assert seen == places
        # A container is gone a moment after its operation where that failed at its very end.
        wait_for(lambda: len(self.marked.all()) == wanted, timeout_s=30)

    def check_aliases(self):
        """At any time: of one model no two versions have the same alias, and one is the default."""
        for model, versions in self.known().items():
            aliases = [alias for each in versions for alias in each.get("versionAliases", [])]
            assert len(set(aliases)) == len(aliases), versions
            assert aliases.count("default") == 1, (model, versions)
            numbers = [each["versionId"] for each in versions]
            assert len(set(numbers)) == len(numbers)

    def known(self):
        """The versions of every model that was ever uploaded here, and is there still: a list of models shows only
        those with a default version.
        """
        found = {}
        for model in sorted(self.seen | set(self.models())):
            self.seen.add(model)
            try:
                found[model] = self.versions(model)
            except Refused:
                self.seen.discard(model)
        return found

    def clear(self):
        self.settle()
        for endpoint in self.all("endpoints"):
            for each in endpoint.get("deployedModels", []):
                self.api.call("PATCH", f"{endpoint['name']}?updateMask=trafficSplit", trafficSplit={})
                self.begin(self.api.undeploy, endpoint["name"], each["id"])
            self.settle()
            self.delete(endpoint["name"])
        for model in self.models():
            self.delete(model)
        self.check()
        assert self.all("endpoints") == self.models() == self.marked.all() == []


def halves(ids, total):
    """Each gets half of what is left, the last one the rest."""
    split = {}
    for identity in ids[:-1]:
        split[identity] = total // 2
        total -= split[identity]
    return {**split, **({ids[-1]: total} if ids else {})}


SHARES = st.sampled_from([None, 0, 1, 50, 100])
NUMBERS = st.integers(0, 3)
MOST = 6
"""Deployments of one sequence: this machine is small."""


def test_any_sequence_of_calls_keeps_the_parts_in_agreement(api):
    class Machine(RuleBasedStateMachine):
        def __init__(self):
            super().__init__()
            self.world = World(api)
            self.deployments = 0
            self.world.upload()
            self.world.create()
            self.world.settle()

        @property
        def endpoints(self):
            return [each["name"] for each in self.world.all("endpoints")]

        def model(self, number):
            models = self.world.models()
            return models[number % len(models)] if models else f"{self.world.parent}/models/1"

        def endpoint(self, number):
            endpoints = self.endpoints
            return endpoints[number % len(endpoints)] if endpoints else f"{self.world.parent}/endpoints/1"

        @rule(number=NUMBERS, new=st.sampled_from([False, False, True]), alias=st.sampled_from([None, *ALIASES]))
        def upload(self, number, new, alias):
            self.world.upload(None if new else self.model(number), alias)

        @rule(number=NUMBERS, version=st.integers(1, 3), alias=st.sampled_from(["default", *ALIASES, "-best"]))
        def merge(self, number, version, alias):
            self.world.merge(self.model(number), version, alias)

        @rule()
        def create(self):
            self.world.create()

        @precondition(lambda self: self.deployments < MOST)
        @rule(where=NUMBERS, which=NUMBERS, share=SHARES, replicas=st.integers(1, 2))
        def deploy(self, where, which, share, replicas):
            self.deployments += 1
            self.world.deploy(self.endpoint(where), self.model(which), share, replicas)

        @precondition(lambda self: self.deployments < MOST)
        @rule(where=NUMBERS, which=NUMBERS, share=SHARES, replicas=st.integers(1, 2))
        def deploy_and_wait(self, where, which, share, replicas):
            self.deployments += 1
            self.world.deploy(self.endpoint(where), self.model(which), share, replicas)
            self.world.settle()

        @rule(where=NUMBERS, number=NUMBERS, give=st.booleans())
        def undeploy(self, where, number, give):
            self.world.undeploy(self.endpoint(where), number, give=give)

        @rule(where=NUMBERS, number=NUMBERS, replicas=st.integers(0, 3))
        def mutate(self, where, number, replicas):
            self.world.mutate(self.endpoint(where), number, replicas)

        @rule(where=NUMBERS, share=st.sampled_from([0, 50, 100]))
        def split(self, where, share):
            self.world.split(self.endpoint(where), share)

        @rule(which=NUMBERS, endpoint=st.booleans())
        def delete(self, which, endpoint):
            """One rule for both, or little would be left to deploy."""
            self.world.delete(self.endpoint(which) if endpoint else self.model(which))

        @rule(which=NUMBERS)
        def delete_default_version(self, which):
            self.world.delete(f"{self.model(which)}@default:deleteVersion")

        @rule(number=NUMBERS)
        def cancel(self, number):
            self.world.cancel(number)

        @rule()
        def settle(self):
            self.world.settle()

        @invariant()
        def splits_add_up(self):
            """At any time, whatever is going on."""
            for name in self.endpoints:
                models, split = self.world.deployed(name)
                assert set(split) <= {each["id"] for each in models}
                assert sum(split.values()) == (100 if split else 0)

        @invariant()
        def aliases_are_of_one_version(self):
            self.world.check_aliases()

        def teardown(self):
            self.world.check()
            self.world.clear()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            # What an emulator does takes its time, so a failure is shown as it was found, not made smaller.
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_many_clients_of_one_endpoint_keep_the_parts_in_agreement(api):
    world = World(api)
    models = []
    for _ in range(2):
        world.upload()
        world.settle()
        models = world.models()
    world.create()
    world.settle()
    (endpoint,) = [each["name"] for each in world.all("endpoints")]
    errors = []

    def client(seed):
        chance = random.Random(seed)
        calls = (
            lambda: world.deploy(endpoint, chance.choice(models), chance.choice([None, 50, 100]), 1),
            lambda: world.undeploy(endpoint, chance.randrange(4), give=chance.random() < 0.7),
            lambda: world.split(endpoint, chance.choice([50, 100])),
            lambda: world.mutate(endpoint, chance.randrange(4), chance.choice([1, 2])),
            lambda: world.cancel(chance.randrange(8)),
            lambda: world.upload(chance.choice(models), chance.choice(ALIASES)),
            lambda: world.merge(chance.choice(models), chance.randrange(1, 4), chance.choice(["default", *ALIASES])),
            lambda: world.delete(f"{chance.choice(models)}@{chance.randrange(1, 4)}:deleteVersion"),
        )
        try:
            for _ in range(20):
                chance.choice(calls)()
                models_there, split = world.deployed(endpoint)
                assert set(split) <= {each["id"] for each in models_there}
                assert sum(split.values()) in (0, 100)
        except BaseException as error:  # noqa: BLE001 - the test shows it
            errors.append(error)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    world.check()
    world.clear()
