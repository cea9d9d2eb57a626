/** What is made of `thing` once, as long as that is the same object. */
export function onceFor<Made>(known: WeakMap<object, Made>, thing: object, make: () => Made): Made {
  const present = known.get(thing);
  if (present !== undefined) return present;
  const made = make();
  known.set(thing, made);
  return made;
}
