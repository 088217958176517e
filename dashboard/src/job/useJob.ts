import { useSuspenseQuery } from "@tanstack/react-query";
import { useParams } from "@tanstack/react-router";
import { type Job, jobQuery } from "../api/jobs";

/** The job of the page; its frame has loaded it before any tab is drawn. */
export function useJob(): Job {
  const { jobId } = useParams({ from: "/jobs/$jobId" });
  return useSuspenseQuery(jobQuery(jobId)).data;
}
