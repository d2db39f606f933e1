package frame

// Bisect finds which of the changes spoil what is accepted: it returns the
// changes that are accepted together, and why each other one is not. The cost
// is logarithmic in the changes for each that is refused.
func Bisect[T any](base, changes []T, try func([]T) error) (accepted []T, refused map[int]error) {
	b := &bisection[T]{try: try, good: append([]T(nil), base...), refused: map[int]error{}}
	b.search(changes, 0)
	return b.good, b.refused
}

type bisection[T any] struct {
	try     func([]T) error
	good    []T
	refused map[int]error // index among the changes
}

func (b *bisection[T]) search(changes []T, offset int) {
	if len(changes) == 0 {
		return
	}
	together := append(append([]T(nil), b.good...), changes...)
	err := b.try(together)
	switch {
	case err == nil:
		b.good = together
	case len(changes) == 1:
		b.refused[offset] = err
	default:
		half := len(changes) / 2
		b.search(changes[:half], offset)
		b.search(changes[half:], offset+half)
	}
}
