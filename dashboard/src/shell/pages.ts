import type { LinkProps } from "@tanstack/react-router";

export interface PageEntry {
  title: string;
  to: NonNullable<LinkProps["to"]>;
  /** Pressed after `g`. */
  key: string;
}

/** The pages of the navigation, the palette and the shortcuts, in order. */
export const PAGES: readonly PageEntry[] = [
  { title: "Jobs", to: "/jobs", key: "j" },
  { title: "Datasets", to: "/datasets", key: "d" },
  { title: "Models", to: "/models", key: "m" },
  { title: "Evals", to: "/evals", key: "e" },
  { title: "Playground", to: "/playground", key: "p" },
  { title: "Compare", to: "/compare", key: "c" },
  { title: "Workers and queue", to: "/workers", key: "w" },
  { title: "API keys", to: "/keys", key: "k" },
];
