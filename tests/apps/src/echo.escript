#!/usr/bin/env escript
%% SPDX-License-Identifier: Apache-2.0
%% echo.escript HOST PORT TEXT: gen_tcp on both ends, passive and active.
main([Host, Port, Text]) ->
    P = list_to_integer(Port),
    {ok, L} = gen_tcp:listen(P, [binary, {ip, {127, 0, 0, 1}}, {reuseaddr, true}, {active, false}]),
    spawn_link(fun() -> accept(L) end),
    Want = binary:copy(list_to_binary(Text), 5000),
    [ok = round(Host, P, Want) || _ <- lists:seq(1, 5)],
    halt(0).
accept(L) ->
    {ok, S} = gen_tcp:accept(L),
    Pid = spawn_link(fun() -> receive go -> serve(S) end end),
    ok = gen_tcp:controlling_process(S, Pid),
    Pid ! go,
    accept(L).
serve(S) ->
    inet:setopts(S, [{active, once}]),
    receive
        {tcp, S, D} -> ok = gen_tcp:send(S, D), serve(S);
        {tcp_closed, S} -> ok
    end.
round(Host, P, Want) ->
    {ok, S} = gen_tcp:connect(Host, P, [binary, {active, false}]),
    spawn_link(fun() -> ok = gen_tcp:send(S, Want) end),
    {ok, Want} = gen_tcp:recv(S, byte_size(Want), 20000),
    gen_tcp:close(S).
