//! What a tensor is, by its name: names of PyTorch models and of llama.cpp.

/// A kind of tensors that quantizers leave alone by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameKind {
    /// Embeddings, positions, norms and biases: small, or looked up instead of multiplied. A pattern that selects them
    /// asks for them.
    Lookup,
    /// Routers, code books, parameters of state-space models, scales and zero points: a few numbers on which all others
    /// depend. Only a rule with a format asks for them.
    Critical,
}

/// Largest number of experts. A matrix called `gate` with more rows is half of a gated layer, not a router.
const MAX_EXPERTS: usize = 1024;

/// Words of embeddings: looked up by an index.
const EMBEDDINGS: [&str; 7] = ["embed", "embedding", "embeddings", "embd", "emb", "wte", "wpe"];
/// Words of positions and of tokens that are learned as such.
const POSITIONS: [&str; 5] = ["position", "positions", "positional", "token", "tokens"];
/// Words of scales and zero points.
const SCALES: [&str; 8] =
    ["scale", "scales", "wscales", "ascales", "absmax", "scb", "zeros", "qzeros"];
/// Words of the parameters of state-space models and of RWKV, each as all words of a part of a name.
const STATE_SPACE: [&[&str]; 14] = [
    &["a", "log"],
    &["x", "proj"],
    &["dt", "proj"],
    &["dt"],
    &["conv1d"],
    &["ssm", "a"],
    &["ssm", "d"],
    &["ssm", "x"],
    &["ssm", "dt"],
    &["ssm", "conv1d"],
    &["time", "decay"],
    &["time", "first"],
    &["time", "faaaa"],
    &["time", "state"],
];

/// Returns the kind of the tensor `name`, which has `rows` rows, or `None` for a linear layer and whatever is unknown.
///
/// Names consist of parts (`model.layers.0.mlp.gate.weight`), and parts of words. Only whole words count, of the part
/// that says what the tensor is: the last one, unless that is only `weight`. So `norm1.linear.weight` is a linear layer,
/// and `normalizer.weight` no norm.
pub(super) fn kind(name: &str, rows: usize, cols: usize) -> Option<NameKind> {
    let name = name.to_ascii_lowercase();
    // Numbers count layers, or are the places of layers in a sequence.
    let parts: Vec<Vec<&str>> =
        name.split('.').map(words).filter(|part| !part.is_empty()).collect();
    let subject = parts.last()?;
    let before = parts.len().checked_sub(2).map(|at| &parts[at]);
    let has = |words: &[&str]| subject.iter().any(|word| words.contains(word));
    let any_part = |words: &[&str]| parts.iter().flatten().any(|word| words.contains(word));
    let is_gate = |part: &Vec<&str>| **part == ["gate"] || **part == ["ffn", "gate", "inp"];
    let is_router = any_part(&["router", "routers"])
        || rows <= MAX_EXPERTS
            && rows <= cols
            && (is_gate(subject)
                || before.is_some_and(is_gate)
                || subject.ends_with(&["expert", "gate"])
                || subject.ends_with(&["inp", "shexp"]));
    let is_scale = has(&SCALES) || contains(subject, &["zero", "point"]);
    let is_code_book = any_part(&["codebook", "codebooks"]);
    if is_router || is_scale || is_code_book || STATE_SPACE.contains(&subject.as_slice()) {
        return Some(NameKind::Critical);
    }
    if contains(subject, &["time", "mix"]) || contains(subject, &["time", "maa"]) {
        return Some(NameKind::Critical);
    }
    let is_norm = |word: &&str| word.ends_with("norm") || ["norms", "ln", "bn"].contains(word);
    let is_lookup = has(&EMBEDDINGS)
        || has(&POSITIONS)
        || has(&["bias", "biases"])
        || subject.iter().any(is_norm)
        || contains(subject, &["rel", "pos"])
        // The embedding of T5.
        || **subject == ["shared"];
    is_lookup.then_some(NameKind::Lookup)
}

/// Returns the words of a part of a name, without those that every tensor's name may have, and without the digits that
/// words end with.
fn words(part: &str) -> Vec<&str> {
    let words = part.split(['_', '-', '/', ':']).map(|word| {
        match word.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "conv" => word,
            stem => stem,
        }
    });
    words.filter(|word| !word.is_empty() && *word != "weight" && *word != "weights").collect()
}

/// Returns whether `words` contains `sequence`.
fn contains(words: &[&str], sequence: &[&str]) -> bool {
    words.windows(sequence.len()).any(|window| window == sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(kind_of: Option<NameKind>, names: &[&str]) {
        for name in names {
            assert_eq!(kind(name, 256, 1024), kind_of, "{name}");
        }
    }

    #[test]
    fn linear_layers_of_all_kinds_are_taken() {
        all(
            None,
            &[
                "model.layers.0.self_attn.q_proj.weight",
                "model.layers.0.mlp.gate_proj.weight",
                "model.layers.0.mlp.experts.7.w1.weight",
                "model.layers.0.mlp.experts.gate_up_proj",
                "lm_head.weight",
                "blk.0.ffn_gate.weight",
                "blk.0.attn_q.weight",
                "output.weight",
                "transformer_blocks.0.norm1.linear.weight",
                "double_blocks.0.img_mod.lin.weight",
                "time_embedding.linear_1.weight",
                "x_embedder.weight",
                "patch_embed.proj.weight",
                "normalizer.proj.weight",
                "debiased.weight",
                "final_layer.adaLN_modulation.1.weight",
                "layernorm_mlp.fc1_weight",
                "encoder.attn.in_proj_weight",
                "transformer.h.0.attn.c_attn.weight",
                "mixer.in_proj.weight",
                "blk.0.ssm_in.weight",
                "visual.blocks.0.attn.qkv.weight",
                "",
                "weight",
            ],
        );
    }

    #[test]
    fn what_is_looked_up_is_left_alone() {
        all(
            Some(NameKind::Lookup),
            &[
                "model.embed_tokens.weight",
                "transformer.wte.weight",
                "transformer.wpe.weight",
                "token_embd.weight",
                "shared.weight",
                "emb.weight",
                "bert.embeddings.word_embeddings.weight",
                "decoder.embed_positions.weight",
                "visual.positional_embedding",
                "vision.pos_embed",
                "cls_token",
                "attn.rel_pos_h",
                "input_layernorm.weight",
                "blk.0.attn_norm.weight",
                "norm1.weight",
                "ln_f.weight",
                "layernorm_mlp.layer_norm_weight",
                "attn.relative_attention_bias.weight",
                "q_proj.bias",
            ],
        );
    }

    #[test]
    fn what_others_depend_on_is_left_alone() {
        all(
            Some(NameKind::Critical),
            &[
                "model.layers.0.mlp.gate.weight",
                "model.layers.0.block_sparse_moe.gate.weight",
                "model.layers.0.mlp.router.weight",
                "mlp.router.classifier.weight",
                "mlp.gate.wg.weight",
                "mlp.shared_expert_gate.weight",
                "blk.0.ffn_gate_inp.weight",
                "quantizer.codebook",
                "vq.layers.0._codebook.embed",
                "mixer.x_proj.weight",
                "mixer.dt_proj.weight",
                "mixer.A_log",
                "blk.0.ssm_x.weight",
                "blocks.0.att.time_decay",
                "q_proj.weight_scale_inv",
                "q_proj.scales",
                "q_proj.qzeros",
                "q_proj.weight_zero_point",
                "q_proj.SCB",
            ],
        );
        // Half of a gated layer, which some models call by the same name.
        assert_eq!(kind("mlp.gate.weight", 4096, 2048), None);
    }
}
