/**
 * Which elements along sharded axes must stay on one rank.
 *
 * A sharded axis carries a label per index, its unit. Following a value through a graph unites units: indices that
 * meet element by element are one unit, and so are those that are summed together (the columns of a head). What is
 * left apart in the end may go to different ranks: heads of an attention, or groups of query heads that share a key
 * and value head; single columns of a feed-forward layer; rows of the residual stream. Nothing has to be known of
 * heads or of how a joined query, key and value matrix is laid out.
 *
 * Axes whose units have met belong to one family: they are cut by the same shares.
 */

/** The unit of each index along one axis of a value. */
export interface Labels {
  /** Resolved by `Units.family`. */
  readonly family: number;
  /** Resolved by `Units.unit`. */
  readonly ids: Int32Array;
}

/** Disjoint sets (Tarjan, 1975) of units, and of the families they belong to. */
export class Units {
  private readonly parents: number[] = [];
  private readonly familyParents: number[] = [];
  private readonly known: { readonly labels: Labels; readonly heads: boolean }[] = [];

  /** A new family: every index along an axis of this length for itself. */
  fresh(length: number): Labels {
    const ids = Int32Array.from({ length }, () => this.parents.push(this.parents.length) - 1);
    const family = this.familyParents.push(this.familyParents.length) - 1;
    return this.keep({ family, ids }, false);
  }

  /** Labels of another axis in the same family. `heads`: each index stands for several that were united for it. */
  derive({ family }: Labels, ids: ArrayLike<number>, heads = false): Labels {
    return this.keep({ family, ids: Int32Array.from(ids) }, heads);
  }

  /** The two axes, of equal length, meet index by index. */
  unite(a: Labels, b: Labels): void {
    this.join(a, b);
    a.ids.forEach((id, i) => {
      this.same(id, b.ids[i]!);
    });
  }

  /** The two axes are cut by the same shares, whatever their units are. */
  join(a: Labels, b: Labels): void {
    this.familyParents[root(this.familyParents, a.family)] = root(this.familyParents, b.family);
  }

  unit(id: number): number {
    return root(this.parents, id);
  }

  family(labels: Labels): number {
    return root(this.familyParents, labels.family);
  }

  /** How many units there are along an axis. */
  count(labels: Labels): number {
    return this.of(labels).length;
  }

  /** The units along an axis, in the order in which they come. */
  of({ ids }: Labels): number[] {
    const found = new Set<number>();
    let last = -1;
    for (const id of ids) {
      const unit = this.unit(id);
      if (unit !== last) found.add(unit);
      last = unit;
    }
    return [...found];
  }

  /** All axes of a family, in the order in which they were found. */
  axes(family: number): readonly { readonly labels: Labels; readonly heads: boolean }[] {
    return this.known.filter(({ labels }) => this.family(labels) === family);
  }

  /** Two indices go to one rank. */
  same(a: number, b: number): void {
    const [x, y] = [this.unit(a), this.unit(b)];
    if (x !== y) this.parents[Math.max(x, y)] = Math.min(x, y);
  }

  private keep(labels: Labels, heads: boolean): Labels {
    this.known.push({ labels, heads });
    return labels;
  }
}

/** The root of a set, with the path to it halved. */
function root(parents: number[], of: number): number {
  let at = of;
  while (parents[at] !== at) {
    parents[at] = parents[parents[at]!]!;
    at = parents[at]!;
  }
  return at;
}
