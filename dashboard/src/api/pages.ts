interface Page<T, Cursor> {
  data: T[];
  has_more?: boolean;
  last_id?: Cursor | null;
}

/** Collects a listing page by page, until it ends or `isEnough` holds for what has been collected. */
export async function collect<T, Cursor>(
  ask: (after: Cursor | undefined) => Promise<Page<T, Cursor>>,
  isEnough: (items: readonly T[]) => boolean = () => false,
): Promise<T[]> {
  const items: T[] = [];
  let page: Page<T, Cursor> | undefined;
  do {
    page = await ask(page?.last_id ?? undefined);
    items.push(...page.data);
  } while (page.has_more && !isEnough(items));
  return items;
}
