package output_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"skep/services/worker/output"
)

func TestMask(t *testing.T) {
	for name, c := range map[string]struct {
		secrets    []string
		said, want string
	}{
		"none":             {nil, "hello\n", "hello\n"},
		"plain":            {[]string{"hunter22"}, "it is hunter22!\n", "it is [redacted]!\n"},
		"space around":     {[]string{"hunter22\n"}, "hunter22x", "[redacted]x"},
		"too short":        {[]string{"abc"}, "abc", "abc"},
		"twice":            {[]string{"hunter22"}, "hunter22hunter22", "[redacted][redacted]"},
		"overlap":          {[]string{"abcdef", "defghi"}, "xabcdefghiy", "x[redacted]y"},
		"one in the other": {[]string{"abcd", "abcdef"}, "abcdef abcdx", "[redacted] [redacted]x"},
		"with itself":      {[]string{"aabaa"}, "aabaabaab", "[redacted]b"},
		"begun":            {[]string{"hunter22"}, "hunter2", "hunter2"},
		"begun and short":  {[]string{"abcdefgh", "abcd"}, "abcdef", "[redacted]ef"},
		"many lines":       {[]string{"-----KEY\nc2VjcmV0cw\n"}, "-----KEY\nc2VjcmV0cw\n", "[redacted]\n"},
		"one of its lines": {[]string{"-----KEY\nc2VjcmV0cw\n"}, "  c2VjcmV0cw\n", "  [redacted]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var values [][]byte
			for _, s := range c.secrets {
				values = append(values, []byte(s))
			}
			mask := output.NewMask(values...)
			for size := 1; size <= len(c.said); size++ {
				var got bytes.Buffer
				w := mask.Writer(&got)
				for piece := range slices.Chunk([]byte(c.said), size) {
					if n, err := w.Write(piece); n != len(piece) || err != nil {
						t.Fatal(n, err)
					}
				}
				if err := w.Close(); err != nil || got.String() != c.want {
					t.Errorf("in pieces of %d: %q, want %q (%v)", size, got.String(), c.want, err)
				}
			}
		})
	}
}

// Whatever is written in whatever pieces, no secret comes out, and what holds
// none comes out as it is.
func FuzzMask(f *testing.F) {
	f.Add("hunter22", "correct horse", "it is hunter22 or correct horse", 3)
	f.Add("aaaa", "aaaaab", "aaaaaaaaaabaaab", 1)
	f.Add("one\ntwo two two", "two two", "xtwo two two\none\ntwo two twox", 5)
	f.Fuzz(func(t *testing.T, one, two, said string, size int) {
		one, two = strings.TrimSpace(one), strings.TrimSpace(two)
		const mark = "[redacted]"
		for _, s := range []string{one, two} {
			// The mark itself must not make a secret.
			if len(s) < 4 || strings.Contains(mark, s) || strings.ContainsAny(s, "[]") {
				t.Skip()
			}
		}
		size = max(1, size%10)
		var got bytes.Buffer
		w := output.NewMask([]byte(one), []byte(two)).Writer(&got)
		for piece := range slices.Chunk([]byte(said), size) {
			if _, err := w.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(got.String(), one) || strings.Contains(got.String(), two) {
			t.Errorf("%q shows %q or %q", got.String(), one, two)
		}
		if !strings.Contains(got.String(), mark) && got.String() != said {
			t.Errorf("%q became %q", said, got.String())
		}
	})
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	for name, c := range map[string]struct {
		said string
		want []string
	}{
		"nothing":      {"", nil},
		"one":          {"a\n", []string{"a"}},
		"no end":       {"a\nb", []string{"a", "b"}},
		"empty ones":   {"\n\na\r\n", []string{"", "", "a"}},
		"long":         {long + "y\nz\n", []string{long, "y", "z"}},
		"exactly long": {long + "\nz", []string{long, "z"}},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			t.Run(fmt.Sprintf("%s/%d", name, size), func(t *testing.T) {
				var got []string
				w := output.Lines(func(line string) { got = append(got, line) })
				for piece := range slices.Chunk([]byte(c.said), size) {
					if _, err := w.Write(piece); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.Close(); err != nil || !slices.Equal(got, c.want) {
					t.Errorf("%.100q, want %.100q (%v)", got, c.want, err)
				}
			})
		}
	}
}

func TestBuffer(t *testing.T) {
	b := output.Buffer{Most: 5}
	for _, s := range []string{"abc", "defg", "h"} {
		if n, err := b.Write([]byte(s)); n != len(s) || err != nil {
			t.Error(n, err)
		}
	}
	if string(b.Bytes()) != "abcde" {
		t.Errorf("kept %q", b.Bytes())
	}
}
