import { useLocation, useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import type { Sampling } from "../api/chat";
import { type Answer, answer, found, givenTo, SIDES, type Side, type Turn } from "./talk";

declare module "@tanstack/history" {
  interface HistoryState {
    /** What has been said in the playground: it stays with this entry of the history, also over a reload. */
    turns?: Turn[];
  }
}

interface Question {
  asked: string;
  plain: boolean;
  system: string;
  models: Partial<Record<Side, string>>;
  sampling: Sampling;
}

/** A conversation with one model or two, each of which goes on from answers of its own. */
export function useTalk() {
  const navigate = useNavigate();
  const kept = useLocation({ select: ({ state }) => state.turns });
  const [turns, setTurns] = useState(() => found(kept ?? []));
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
  async function put({ asked, plain, system, models, sampling }: Question) {
    const before = latest.current;
    const control = new AbortController();
    setWriting(control);
    become([...before, { asked, plain, answers: {} }]);
    const tell = (side: Side) => (told: Answer) => {
      const last = latest.current.at(-1)!;
      become([...before, { ...last, answers: { ...last.answers, [side]: told } }]);
    };
    const all = SIDES.map((side) => {
      const model = models[side];
      if (!model) return undefined;
      return answer(model, givenTo(side, before, asked, plain, system), sampling, control.signal, tell(side));
    });
    keep();
    await Promise.all(all);
    setWriting(null);
    if (!control.signal.aborted || control.signal.reason !== LEFT) keep();
  }
  useEffect(() => () => writing?.abort(LEFT), [writing]);
  return {
    turns,
    put,
    stop: writing && (() => writing.abort()),
    clear: () => {
      become([]);
      keep();
    },
  };
}

const LEFT = "the page was left";
