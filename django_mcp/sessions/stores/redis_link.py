"""How stores reach Redis: a django-redis alias of `CACHES`, its raw client, and scripts that run once each.

Every step is one Lua script on the primary, whose keys share one hash tag, by the clock of Redis. A step that writes
leaves its result under a name of its own for a minute, so that one whose answer was lost is sent again and not done
again, by the client library or by us.

**Epochs.** A Redis that was killed may have forgotten what it had acknowledged, and a flushed one has forgotten all.
Each start of a server has a run id; the epoch is a random name that is kept in Redis and lasts over a restart only
where nothing acknowledged can have been lost: with `appendfsync always`, on a server that was never promoted from a
replica. What is kept carries the epoch it was written in. Of another epoch it is *in doubt*: a store refuses it
rather than serve what may be older than what somebody has seen. In a cluster an epoch is a run of one node.

**Beats.** Once in BEAT_SECONDS a process makes sure that its epoch is still the one that Redis keeps, which a flush
forgets, and leaves the time there. Redis loses the newest writes and no others, so of an epoch that is over everything
up to the beat that survived is there: `survived_until()`. In a cluster that is not known.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Final, TypeAlias, TypeVar

from django.core.cache import InvalidCacheBackendError, caches
from redis import Redis, RedisCluster
from redis import exceptions as errors

from django_mcp.conf import mcp_settings
from django_mcp.exceptions import ConfigurationError, StoreUnavailable
from django_mcp.setting import SETTING

Argument: TypeAlias = str | bytes | int | float
RawClient: TypeAlias = Redis | RedisCluster
T = TypeVar("T")

logger = logging.getLogger("django_mcp.stores")

_AWAY: Final = (
    *("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"),
    *("UNBLOCKED", "MOVED", "ASK"),
)
"""What Redis answers where it cannot serve for now."""
_MOVED_ON: Final = b"run"
BEAT_SECONDS: Final = 1.0
_ROUNDS: Final = 5
_RESENDS: Final = 2
_RESEND_SECONDS: Final = 5.0
"""After so long nobody waits for the answer to another sending."""
_RUNS: Final = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One atomic step: the body of `lua/<name>.lua`, which sees KEYS, ARGV, `now`, `epoch` and what the prelude has.

    Its keys share one hash tag. A body that writes something runs once however often it is sent. `shared` names
    another file, which stands before the body.
    """

    name: str
    writes: bool = True
    shared: str = ""

    def source(self) -> str:
        """Return the whole script."""
        folder = files(__package__) / "lua"
        names = [self.shared, self.name] if self.shared else [self.name]
        body = "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in names)
        return (folder / "prelude.lua").read_text("utf-8").replace("--[[ body ]]", body)


@dataclass(frozen=True, slots=True)
class Sending:
    """A step, and what it is run on (`RedisLink.run`)."""

    step: Step
    tag: str
    keys: Sequence[str] = ()
    args: Sequence[Argument] = ()


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of one hash, as they were read; `is_current` if it is of the epoch that its server is in."""

    is_current: bool
    values: tuple[bytes | None, ...]


class RedisLink:
    """The Redis of one alias in `CACHES`, as one alias in `STORES` uses it.

    Args:
        alias: of the store; part of every key.
        cache: the alias in `CACHES`, whose client connects to it.
        is_durable: overrides what Redis says of itself; True where nothing acknowledged is lost in any restart.
    """

    def __init__(self, alias: str, cache: str = "default", *, is_durable: bool | None = None) -> None:
        self.alias = alias
        self.cache = cache
        self._is_durable = is_durable
        self._epochs: dict[str, str] = {}
        self._scripts: dict[str, str] = {}
        self._next_beat = 0.0

    @property
    def client(self) -> RawClient:
        """Return the raw client of the primary. Raises ConfigurationError where the alias is not django-redis's."""
        try:
            backend = caches[self.cache]
        except InvalidCacheBackendError as error:
            raise self._misconfigured("is not in CACHES") from error
        client: Any = getattr(backend, "client", None)
        if not hasattr(client, "get_client"):
            raise self._misconfigured(f"is {type(backend).__qualname__}, not django-redis's cache")
        primary: RawClient = client.get_client(write=True)
        return primary

    def _misconfigured(self, problem: str) -> ConfigurationError:
        return ConfigurationError(
            f"The store {self.alias!r} uses the cache {self.cache!r}, which {problem}. Set "
            f"{SETTING}['STORES'][{self.alias!r}]['OPTIONS']['CACHE'] to an alias whose BACKEND is "
            "'django_redis.cache.RedisCache'."
        )

    def key(self, tag: str, *parts: str) -> str:
        """Return a key whose slot in a cluster is that of `tag`."""
        return ":".join((f"{mcp_settings.KEY_PREFIX}:{self.alias}:{{{tag}}}", *parts))

    def run(self, step: Step, tag: str, keys: Sequence[str] = (), args: Sequence[Argument] = ()) -> Any:
        """Run a step on the keys of these names under `tag`, and return what its body returned.

        A body's nil and false are None, its true is 1, its strings are bytes, its numbers whole.

        Raises StoreUnavailable where Redis is not there.
        """
        source = self._source(step)
        names = [*(self.key(tag, name) for name in keys), *self._nonces(step, tag)]
        with self.outages():
            client = self.client
            self._beat(client)
            script = client.register_script(source)
            for _ in range(_ROUNDS):
                terms = [self._known(), int(step.writes), *args]
                answer: Any = self._sent(partial(script, keys=names, args=terms))
                if answer[0] != _MOVED_ON:
                    return answer[1] if len(answer) > 1 else None
                self._learn(client, answer[1].decode())
        raise StoreUnavailable("Redis restarts again and again")

    def run_many(self, sendings: Sequence[Sending], *, before: Sequence[Sequence[Argument]] = ()) -> list[Any]:
        """Run steps, each for itself, by one round trip; return what each returned.

        `before` are plain commands that are sent ahead of them, and do not mind being sent twice.

        Raises StoreUnavailable where Redis is not there; some of them may have run then.
        """
        names = [[*(self.key(one.tag, key) for key in one.keys), *self._nonces(one.step, one.tag)] for one in sendings]
        answers: list[Any] = [None] * len(sendings)
        left = list(range(len(sendings)))
        with self.outages():
            client = self.client
            self._beat(client)
            for _ in range(_ROUNDS):
                if not left:
                    return answers
                commands = [*before, *(self._evaluation(sendings[place], names[place]) for place in left)]
                sent = self._sent(partial(self._pipelined, client, commands))
                _raise_first(sent[: len(before)])
                found, before = sent[len(before) :], ()
                again: list[int] = []
                for place, answer in zip(left, found, strict=True):
                    if isinstance(answer, errors.NoScriptError):
                        client.script_load(self._source(sendings[place].step))
                        again.append(place)
                    elif isinstance(answer, Exception):
                        raise answer
                    elif answer[0] == _MOVED_ON:
                        self._learn(client, answer[1].decode())
                        again.append(place)
                    else:
                        answers[place] = answer[1] if len(answer) > 1 else None
                left = again
        if left:
            raise StoreUnavailable("Redis restarts again and again")
        return answers

    def send(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send plain commands, of which none minds being sent twice, by one round trip; return their answers."""
        if not commands:
            return []
        with self.outages():
            answers = self._sent(partial(self._pipelined, self.client, commands))
            _raise_first(answers)
            return answers

    def fields(self, hashes: Sequence[tuple[str, str]], names: Sequence[Sequence[str]]) -> list[Fields | None]:
        """Read fields of hashes, each named by its tag and its key, by one round trip; None where there is none.

        The hashes have a field `epoch` besides, and are there if it is.
        """
        if not hashes:
            return []
        with self.outages():
            client = self.client
            self._beat(client)
            servers = [self._server(client, self.key(tag, key)) for tag, key in hashes]
            probes = dict(zip(servers, hashes, strict=True))
            reads = [
                ("HMGET", self.key(tag, key), "epoch", *wanted)
                for (tag, key), wanted in zip(hashes, names, strict=True)
            ]
            for _ in range(_ROUNDS):
                sent = [self._evaluation(Sending(_PROBE, tag), [self.key(tag, key)]) for tag, key in probes.values()]
                found = self._sent(partial(self._pipelined, client, [*sent, *reads]))
                epochs: dict[str, bytes] = {}
                for server, answer in zip(probes, found, strict=False):
                    if isinstance(answer, errors.NoScriptError):
                        client.script_load(self._source(_PROBE))
                    elif isinstance(answer, Exception):
                        raise answer
                    elif answer[0] == _MOVED_ON:
                        self._learn(client, answer[1].decode())
                    else:
                        epochs[server] = answer[1]
                if len(epochs) == len(probes):
                    return [
                        _fields(values, epochs[server])
                        for values, server in zip(found[len(probes) :], servers, strict=True)
                    ]
        raise StoreUnavailable("Redis restarts again and again")

    def _source(self, step: Step) -> str:
        source = self._scripts.get(step.name)
        if source is None:
            source = self._scripts[step.name] = step.source()
        return source

    def _nonces(self, step: Step, tag: str) -> tuple[str, ...]:
        return (self.key(tag, "once", secrets.token_hex(8)),) if step.writes else ()

    def _evaluation(self, sending: Sending, names: Sequence[str]) -> tuple[Argument, ...]:
        source = self._source(sending.step)
        digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        return ("EVALSHA", digest, len(names), *names, self._known(), int(sending.step.writes), *sending.args)

    @staticmethod
    def _sent(send: Callable[[], T]) -> T:
        """Return what `send()` returns, and call it again where the connection was lost before the answer came."""
        give_up_at = time.monotonic() + _RESEND_SECONDS
        for _ in range(_RESENDS):
            try:
                return send()
            except (errors.ConnectionError, errors.TimeoutError):
                if time.monotonic() > give_up_at:
                    raise
        return send()

    @staticmethod
    def _pipelined(client: RawClient, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        pipeline: Any = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error=False)
        return answers

    @staticmethod
    def _server(client: RawClient, key: str) -> str:
        """Return the name of the node of a cluster that has the key; nothing where there is one server."""
        if not isinstance(client, RedisCluster):
            return ""
        cluster: Any = client
        return str(cluster.get_node_from_key(key).name)

    @contextmanager
    def outages(self) -> Iterator[None]:
        """Raise StoreUnavailable for what says that Redis is away, with the cause chained."""
        try:
            yield
        except (errors.ConnectionError, errors.TimeoutError, OSError) as error:
            raise StoreUnavailable("Redis does not answer") from error
        except errors.ResponseError as error:
            if not str(error).lstrip("-").startswith(_AWAY):
                raise
            raise StoreUnavailable("Redis cannot serve for now") from error
        except errors.RedisError as error:
            raise StoreUnavailable("Redis cannot be asked") from error

    # Epochs

    def survived_until(self, epoch: str) -> int | None:
        """Return a time, in milliseconds since 1970, of which all writes of an epoch up to it are there.

        None where that is not known. Of the present epoch nothing has been lost, and nothing is said.
        """
        with self.outages():
            client = self.client
            found = None if isinstance(client, RedisCluster) else client.hget(self.key("epoch"), "ended")
        return dict(json.loads(found)).get(epoch) if found else None

    def _beat(self, client: RawClient) -> None:
        """Leave the time, or forget what is known of epochs where Redis knows of another one."""
        now = time.monotonic()
        if now < self._next_beat or isinstance(client, RedisCluster) or not self._epochs:
            return
        self._next_beat = now + BEAT_SECONDS
        run, epoch = next(reversed(self._epochs.items()))
        if not client.register_script(_BEAT)(keys=[self.key("epoch")], args=[run, epoch]):
            self._epochs.clear()

    def _known(self) -> str:
        return ",".join(f"{run}={epoch}" for run, epoch in self._epochs.items())

    def _learn(self, client: RawClient, run: str) -> None:
        """Find which epoch a run that was not seen before belongs to, or begin one; nothing if it is over already."""
        if run in self._epochs:
            return
        if isinstance(client, RedisCluster):
            epoch = run
        else:
            names = [self.key("epoch")]
            keep = int(self.loses_nothing(client))
            found = client.register_script(_EPOCH)(keys=names, args=[run, secrets.token_hex(8), keep])
            if found is None:
                return
            epoch = found.decode()
        if self._epochs:
            logger.warning("Redis of the store %r has started anew, epoch %s", self.alias, epoch)
        self._epochs[run] = epoch
        while len(self._epochs) > _RUNS:
            del self._epochs[next(iter(self._epochs))]

    def loses_nothing(self, client: RawClient) -> bool:
        """Say whether this server has all that it ever acknowledged."""
        if self._is_durable is not None:
            return self._is_durable
        try:
            settings: Mapping[Any, Any] = client.config_get("append*")
        except errors.ResponseError:
            # Who may not ask does not know.
            return False
        replication: Mapping[str, Any] = client.info("replication")
        texts = {_text(name): _text(value) for name, value in settings.items()}
        return (
            texts.get("appendonly") == "yes"
            and texts.get("appendfsync") == "always"
            # Zeros alone where it was never promoted, which the client may have read as a number.
            and not str(replication.get("master_replid2", "unknown")).strip("0")
        )


_PROBE: Final = Step("probe", writes=False)


def _raise_first(answers: Sequence[Any]) -> None:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer


def _fields(values: Any, epoch: bytes) -> Fields | None:
    if isinstance(values, Exception):
        raise values
    found, *rest = values
    return None if found is None else Fields(found == epoch, tuple(rest))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


_EPOCH: Final = """
if string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') ~= ARGV[1] then return false end
local kept = redis.call('HMGET', KEYS[1], 'run', 'epoch', 'beat', 'ended', 'durable')
if kept[1] == ARGV[1] then return kept[2] end
local epoch = ARGV[2]
if kept[2] and kept[5] == '1' and ARGV[3] == '1' then
  epoch = kept[2]
elseif kept[3] then
  local ended = cjson.decode(kept[4] or '[]')
  ended[#ended + 1] = {kept[2], tonumber(kept[3])}
  while #ended > 64 do table.remove(ended, 1) end
  redis.call('HSET', KEYS[1], 'ended', cjson.encode(ended))
  redis.call('HDEL', KEYS[1], 'beat')
end
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'epoch', epoch, 'durable', ARGV[3])
return epoch
"""
_BEAT: Final = """
local kept = redis.call('HMGET', KEYS[1], 'run', 'epoch')
if kept[1] ~= ARGV[1] or kept[2] ~= ARGV[2] then return 0 end
if string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], 'beat', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
return 1
"""
