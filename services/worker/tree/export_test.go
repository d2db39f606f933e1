package tree

// SetMaxTree sets what an archive may unpack to, and returns what it was.
func SetMaxTree(bytes int64) int64 {
	was := maxTree
	maxTree = bytes
	return was
}
