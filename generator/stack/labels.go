package stack

// LabelSet is what one service tells the ingress: its deploy labels.
type LabelSet struct {
	Service ServiceRef
	Labels  map[string]string
}

// Refusal is a label that the ingress would not accept. Label is empty when
// the set fails as a whole.
type Refusal struct {
	Service ServiceRef
	Label   string
	Err     error
}
