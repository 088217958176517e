import { Link } from "@tanstack/react-router";
import { Empty } from "../parts/Notice";
import { useTitle } from "../parts/title";

export function Missing() {
  useTitle("Not found");
  return (
    <Empty title="There is no such page">
      <p>
        The address may be mistyped, or from another version. <Link to="/jobs">All jobs</Link> are still there.
      </p>
    </Empty>
  );
}
