#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# loop.sh KIND FIRST STEP MANY DIR: runs the program with the FIRSTth, FIRST+STEPth ... request refused (and the MANY-1 behind
# it), until there are no more. Appends what was wrong to DIR/wrong, one line each, and writes `runs N refused N` to DIR/result.
kind=$1 at=$2 step=$3 many=$4 dir=$5 runs=0 failures=0
mkdir -p "$dir"; : >"$dir/wrong"
export MESH_RUN_DIR=$dir/run MESH_TRACE=info:$dir/trace FAULT_PRELOAD="$LIB $FAULT/inject.so"

# What is for the life of a process is said so: no slab that others can map (connections do not cross exec), no environment.
for_good='why=exec .*reason=no-slab|why=no-memory for=environment'
# A first round that failed must have said so with an errno that fits, and have left a line that names the reason.
fits='EAI_MEMORY|EAI_AGAIN|EAI_FAIL|ENOMEM|ENOBUFS|EMFILE|EACCES|ECONNRESET|EIO|ENOTCONN|EBADF|EPIPE'
names='why=|detail=|state=(unusable|unshared)'
for (( ; ; at += step)); do
  rm -rf "$dir/run"; rm -f "$dir"/{out,trace}; mkdir -m 700 "$dir/run"; : >"$dir/trace"
  timeout -k 1 60 "$FAULT/supervise" "$kind" "$at" "$many" "$dir/page" "$FAULT/prog" 19080 >"$dir/out" 2>&1
  rc=$?
  said=$(sed -n 's/^round 1: //p' "$dir/out")
  if [ $rc = 124 ]; then echo "$kind $at: hangs" >>"$dir/wrong"
  elif [ $rc -gt 128 ]; then echo "$kind $at: signal $((rc - 128))" >>"$dir/wrong"
  elif [ $rc != 0 ] && ! grep -qE "$for_good" "$dir/trace"; then echo "$kind $at: $said; then $(sed -n 's/^round 11: //p' "$dir/out")" >>"$dir/wrong"; fi
  if [ -n "$said" ]; then
    failures=$((failures + 1))
    grep -qE ": ($fits)$" <<<"$said" || echo "$kind $at: no clear errno: $said" >>"$dir/wrong"
    [ "$kind$many" = descriptor8 ] || grep -qE "$names" "$dir/trace" || # there the trace has no descriptor either
      echo "$kind $at: no trace: $said" >>"$dir/wrong"
  fi
  runs=$((runs + 1))
  grep -q 'given 0$' "$dir/out" && break
  [ "$(wc -l <"$dir/wrong")" -lt "${FAULT_MOST:-20}" ] || break
done
echo "runs $runs failures $failures" >"$dir/result"
