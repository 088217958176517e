import { useLocation, useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import type { Sampling } from "../api/chat";
import { type Answer, answer, inputOf, restored, SIDES, type Side, type Turn } from "./talk";

declare module "@tanstack/history" {
  interface HistoryState {
    /** The conversation of the playground, which stays with this history entry, also across a reload. */
    turns?: Turn[];
  }
}

interface Question {
  prompt: string;
  plain: boolean;
  system: string;
  models: Partial<Record<Side, string>>;
  sampling: Sampling;
}

/** A conversation with one or two models, each of which continues from its own answers. */
export function useTalk() {
  const navigate = useNavigate();
  const kept = useLocation({ select: ({ state }) => state.turns });
  const [turns, setTurns] = useState(() => restored(kept ?? []));
  const [writing, setWriting] = useState<AbortController | null>(null);
  const latest = useRef(turns);

  function become(next: Turn[]) {
    latest.current = next;
    setTurns(next);
  }
  function keep() {
    navigate({
      to: ".",
      search: true,
      state: (prior) => ({ ...prior, turns: latest.current }),
      replace: true,
      resetScroll: false,
    });
  }
  async function send({ prompt, plain, system, models, sampling }: Question) {
    const before = latest.current;
    const control = new AbortController();
    setWriting(control);
    become([...before, { prompt, plain, answers: {} }]);
    const report = (side: Side) => (grown: Answer) => {
      const last = latest.current.at(-1)!;
      become([...before, { ...last, answers: { ...last.answers, [side]: grown } }]);
    };
    const all = SIDES.map((side) => {
      const model = models[side];
      if (!model) return undefined;
      return answer(model, inputOf(side, before, prompt, plain, system), sampling, control.signal, report(side));
    });
    keep();
    await Promise.all(all);
    setWriting(null);
    if (!control.signal.aborted || control.signal.reason !== LEFT) keep();
  }
  useEffect(() => () => writing?.abort(LEFT), [writing]);
  return {
    turns,
    send,
    stop: writing && (() => writing.abort()),
    clear: () => {
      become([]);
      keep();
    },
  };
}

const LEFT = "the page was left";
