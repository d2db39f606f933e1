package frame

import (
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// grants are the words of trusted snippets: whoever imports one may say the
// same. That holds for whole words, for what is part of a longer one was not
// said.
type grants struct {
	words map[string]bool
	// env and files are what placeholders read. A secret that a trusted snippet
	// puts into one place must not be put into another.
	env, files map[string]bool
	imports    []string // files
}

// standsFor are modules that a directive uses under another name.
var standsFor = map[string][]string{"php_fastcgi": {"fastcgi", "file"}, "try_files": {"file"}}

func readGrants(text string) (grants, error) {
	g := grants{words: map[string]bool{}, env: map[string]bool{}, files: map[string]bool{}}
	tokens, err := caddyfile.Tokenize([]byte(text+"\n"), fileName) // it fails on nothing
	if err != nil {
		return grants{}, err
	}
	for n, t := range tokens {
		g.words[t.Text] = true
		if _, address, ok := strings.Cut(t.Text, "://"); ok {
			g.words[address] = true
		}
		for _, module := range standsFor[t.Text] {
			g.words[module] = true
		}
		for _, m := range machinePlaceholder.FindAllStringSubmatch(t.Text, -1) {
			if m[1] == "env" {
				g.env[placeholderName(m)] = true
			} else {
				g.files[m[2]] = true
			}
		}
		if n > 0 && tokens[n-1].Text == "import" && !strings.Contains(t.Text, "{") {
			g.imports = append(g.imports, t.Text)
		}
	}
	return g, nil
}

// placeholderName is a placeholder's name without its default.
func placeholderName(match []string) string {
	name, _, _ := strings.Cut(match[2], ":")
	return name
}

// imported reports whether trusted snippets import a file themselves.
func (g grants) imported(file string) bool {
	for _, pattern := range g.imports {
		path, err := filepath.Abs(pattern)
		if err != nil {
			continue
		}
		if ok, err := filepath.Match(path, file); ok && err == nil {
			return true
		}
	}
	return false
}
