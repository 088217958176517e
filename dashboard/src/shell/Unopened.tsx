import { Failure } from "../parts/Notice";
import { useTitle } from "../parts/title";
import css from "./SignIn.module.css";

/** Stands where a page or the field for a key will be, until the service says who is signed in. */
export function Unopened({ error }: { error: Error }) {
  useTitle("Not open yet");
  return (
    <main className={css.page}>
      <Failure error={error} />
    </main>
  );
}
