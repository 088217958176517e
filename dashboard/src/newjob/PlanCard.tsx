import type { Schemas } from "../api/client";
import { bytes, count, duration, figure, percent } from "../format";
import { Notice } from "../parts/Notice";
import css from "./NewJobPage.module.css";
import { writeValue } from "./yaml";

type Plan = Schemas["PlanObject"];

/** The plan of a dry run: steps, tokens, time, memory and cost. */
export function PlanCard({ plan }: { plan: Plan }) {
  const facts: [string, string][] = [
    ["Steps", count(plan.steps)],
    ["Tokens", tokensOf(plan)],
    ["Time", plan.eta ? `${duration(plan.eta.low_s)} to ${duration(plan.eta.high_s)}` : "unknown"],
    ["Memory", memoryOf(plan)],
    ...priceOf(plan),
    ["Packing", `${percent(plan.packing_efficiency)} full`],
  ];
  return (
    <section className={css.plan} aria-label="Plan">
      <h2>Plan</h2>
      <dl>
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {plan.fits === false && (
        <Notice tone="warn">
          It does not fit on the machine that planned it. Too small: {shortOf(plan)}.
          {plan.mend && <Mend mend={plan.mend} />}
        </Notice>
      )}
      {plan.unplanned && <p className="muted">{plan.unplanned}</p>}
    </section>
  );
}

function memoryOf({ memory, room_bytes: room, ranks, zero_stage: stage }: Plan): string {
  if (!memory) return "unknown";
  const each = ranks > 1 ? `, in each of ${ranks} processes${stage ? ` (zero_stage ${stage})` : ""}` : "";
  return bytes(memory.total) + (room ? ` of ${bytes(room)}` : "") + each;
}

/** What lacks room; plans made by older releases only compared the memory of a device. */
function shortOf({ short_of }: Plan): string {
  const places = { device: "the memory of its device", memory: "the memory of the host", disk: "the disk" };
  return (short_of ?? ["device" as const]).map((place) => places[place]).join(", ");
}

/** The tokens that pass through the models, and how many of them are trained on, scored, or generated at most. */
function tokensOf({ kind, exact, tokens, trained_tokens }: Plan): string {
  const share = percent(trained_tokens / Math.max(1, tokens));
  if (kind !== "eval") return `${count(tokens)}, of which ${share} are trained on`;
  return exact ? `${count(tokens)}, of which ${count(trained_tokens)} are scored` : `at most ${count(tokens)}`;
}

/** Cost and emissions, where the operator has set prices. */
function priceOf({ cost, co2e_g }: Plan): [string, string][] {
  const facts: [string, string][] = [];
  if (cost) facts.push(["Cost", `${cost.low.toFixed(2)} to ${cost.high.toFixed(2)} ${cost.currency}`]);
  if (co2e_g !== null) facts.push(["CO₂e", co2e_g < 1000 ? `${figure(co2e_g)} g` : `${figure(co2e_g / 1000)} kg`]);
  return facts;
}

function Mend({ mend }: { mend: Schemas["Mend"] }) {
  return (
    <>
      {" "}
      With these changes it needs {bytes(mend.total_bytes)}:
      <ul>
        {mend.edits.map(({ path, value }) => (
          <li key={path}>
            <code>
              {path}: {writeValue(value)}
            </code>
          </li>
        ))}
      </ul>
    </>
  );
}
