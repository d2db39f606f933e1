package check

import (
	"slices"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleUnpinnedImage = rule("unpinned-image", problem.Error, "The image can change under its name")

func unpinnedImage(c *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	image := v.Compose.Image
	if image == "" || strings.Contains(image, "@") || c.Images[image].Digest != "" {
		return nil
	}
	tag := tagOf(image)
	var p problem.Problem
	switch {
	case tag == "":
		p = ruleUnpinnedImage.At(v.At("image"), "image %s has no tag, which means latest", image)
	case slices.Contains(words(tag), "latest"):
		p = ruleUnpinnedImage.At(v.At("image"), "image %s is whatever was pushed last", image)
	case !strings.ContainsAny(tag, "0123456789"):
		p = ruleUnpinnedImage.At(v.At("image"), "tag %q names no version and moves", tag)
		p.Severity = problem.Warning
	default:
		return nil
	}
	return problem.List{p.WithRemedy("name a version, or run `skep lock` to pin the digest in images.lock").About(v.Ref)}
}

// tagOf is the tag of an image without a digest, empty when it has none.
func tagOf(image string) string {
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, _ := strings.Cut(name, ":")
	return tag
}

// words splits a name at everything that is no letter or digit.
func words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
}
