#!/usr/bin/env escript
%%! +S 1:1
%% Erlang's processes on one scheduler, by the protocol of bench/runtime/contender.ts: the names of the cases, then
%% for each line with a name the figures of one round, in nanoseconds or bytes.
-mode(compile).

-define(BURST, 10000).
-define(BURSTS, 50).
-define(ASKS, 20000).
-define(SPAWNS, 20000).
-define(ACTORS, 50000).

main(_) ->
    io:format("[\"tell\",\"ask\",\"spawn\",\"memory\"]~n"),
    serve().

serve() ->
    case io:get_line("") of
        eof -> ok;
        "tell\n" -> say([tell()]), serve();
        "ask\n" -> say(ask()), serve();
        "spawn\n" -> say([spawns()]), serve();
        "memory\n" -> say([memory()]), serve()
    end.

say(Values) ->
    io:format("[~s]~n", [lists:join(",", [io_lib:format("~.3f", [float(V)]) || V <- Values])]).

counter(N) ->
    receive
        {add, By} -> counter(N + By);
        {count, From, Ref} -> From ! {Ref, N}, counter(N);
        stop -> ok
    end.

count(Pid) ->
    Ref = make_ref(),
    Pid ! {count, self(), Ref},
    receive {Ref, N} -> N end.

now_ns() -> erlang:monotonic_time(nanosecond).

tell() ->
    Pid = spawn(fun() -> counter(0) end),
    Begun = now_ns(),
    bursts(Pid, 1),
    Took = now_ns() - Begun,
    Pid ! stop,
    Took / (?BURST * ?BURSTS).

bursts(_, N) when N > ?BURSTS -> ok;
bursts(Pid, N) ->
    send(Pid, ?BURST),
    Expected = ?BURST * N,
    Expected = count(Pid),
    bursts(Pid, N + 1).

send(_, 0) -> ok;
send(Pid, N) -> Pid ! {add, 1}, send(Pid, N - 1).

ask() ->
    Pid = spawn(fun() -> counter(0) end),
    Times = [begin B = now_ns(), 0 = count(Pid), now_ns() - B end || _ <- lists:seq(1, ?ASKS)],
    Pid ! stop,
    Times.

spawns() ->
    Begun = now_ns(),
    spawn_and_stop(?SPAWNS),
    (now_ns() - Begun) / ?SPAWNS.

spawn_and_stop(0) -> ok;
spawn_and_stop(N) ->
    {Pid, Ref} = spawn_monitor(fun() -> counter(0) end),
    Pid ! stop,
    receive {'DOWN', Ref, process, Pid, normal} -> ok end,
    spawn_and_stop(N - 1).

memory() ->
    Before = erlang:memory(processes),
    Pids = [spawn(fun() -> counter(0) end) || _ <- lists:seq(1, ?ACTORS)],
    After = erlang:memory(processes),
    [Pid ! stop || Pid <- Pids],
    (After - Before) / ?ACTORS.
